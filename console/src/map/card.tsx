// One driver: what it does, how old its position is, and which order it serves.
import { age } from "../format.js";
import { Icon } from "../parts/icons.js";
import { DriverMark, KIND_WORD, OrderLink } from "../parts/marks.js";
import { useServerNow } from "../parts/now.js";
import { kindOf, type Dot } from "./fleet.js";

interface Properties {
  id: string;
  dot: Dot | undefined;
  isFollowing: boolean;
  follow(isOn: boolean): void;
  close(): void;
}

export function DriverCard({ id, dot, isFollowing, follow, close }: Properties) {
  useServerNow();
  const now = Date.now();
  const kind = dot === undefined ? "stale" : kindOf(dot, now);
  return (
    <section class="card driver-card" aria-label={`Driver ${id}`}>
      <header>
        <DriverMark kind={kind} />
        <h2 class="mono">{id}</h2>
        <button type="button" class="button icon-button" aria-label="Close" onClick={close}>
          <Icon name="close" />
        </button>
      </header>
      {dot === undefined ? (
        <p>It left this area, or has not reported its position for too long.</p>
      ) : (
        <dl class="facts">
          <dt>Status</dt>
          <dd>{KIND_WORD[kind]}</dd>
          <dt>Last seen</dt>
          <dd>{age(now - dot.fixedAt)} ago</dd>
          {dot.orderId !== "" && (
            <>
              <dt>Order</dt>
              <dd>
                <OrderLink id={dot.orderId} />
              </dd>
            </>
          )}
        </dl>
      )}
      <button type="button" class="button" aria-pressed={isFollowing} disabled={dot === undefined} onClick={() => follow(!isFollowing)}>
        {isFollowing ? "Following" : "Follow"}
      </button>
    </section>
  );
}
