// The frame around the pages: who is signed in, where one can go, and which page is shown.
import { useEffect, useRef } from "preact/hooks";
import { useCell } from "./cell.js";
import { HealthPage } from "./health/page.js";
import { MapPage } from "./map/page.js";
import { OrderPage } from "./order/page.js";
import { OrdersPage } from "./orders/page.js";
import { OutdatedHint } from "./parts/banner.js";
import { Icon } from "./parts/icons.js";
import { ThemeButton } from "./parts/theme-button.js";
import { route } from "./route.js";
import { isStaff, session, signOut, type Session } from "./session.js";
import { NotForYou, SignIn } from "./sign-in.js";

export function App() {
  const signedIn = useCell(session);
  if (signedIn === null) return <SignIn />;
  // With such a token nothing is called: the server would refuse it, and the page has nothing for it.
  if (!isStaff(signedIn.role)) return <NotForYou session={signedIn} />;
  return <Console key={signedIn.token} session={signedIn} />;
}

function Console({ session: signedIn }: { session: Session }) {
  const { path } = useCell(route);
  const main = useRef<HTMLElement>(null);
  const place = path[0] ?? "map";
  const isFirst = useRef(true);
  useEffect(() => {
    // A change of the page is to a keyboard and a reader what a new document would be.
    if (!isFirst.current) main.current?.focus();
    isFirst.current = false;
  }, [path.join("/")]);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); main.current?.focus(); }}>
        Skip to the page
      </a>
      <header class="top">
        <a class="brand" href="#/map" aria-label="Waybill, to the map">
          <svg viewBox="0 0 32 32" aria-hidden="true">
            <path d="M5 10l5.5 13L16 12l5.5 11L27 10" />
            <circle cx="27" cy="8" r="3.4" />
          </svg>
          <span>Waybill</span>
        </a>
        <nav class="nav" aria-label="Pages">
          <Tab name="map" label="Map" place={place} />
          <Tab name="orders" label="Orders" place={place} />
          {signedIn.role === "operator" && <Tab name="health" label="Health" place={place} />}
        </nav>
        <p class="who" title={`${signedIn.subject}, ${signedIn.role}`}>
          <span class="who-name">{signedIn.subject}</span>, {signedIn.role}
        </p>
        <ThemeButton />
        <button type="button" class="button icon-button" aria-label="Sign out" title="Sign out" onClick={() => signOut()}>
          <Icon name="leave" />
        </button>
      </header>
      <OutdatedHint />
      <main id="main" ref={main} tabIndex={-1} class={`page page-${place}`}>
        <Page path={path} session={signedIn} />
        <Licences />
      </main>
    </>
  );
}

function Licences() {
  return (
    <a class="licences" href="/assets/licenses.txt">
      Licences
    </a>
  );
}

function Tab({ name, label, place }: { name: "map" | "orders" | "health"; label: string; place: string }) {
  return (
    <a href={`#/${name}`} aria-current={place === name ? "page" : undefined}>
      <Icon name={name} />
      {label}
    </a>
  );
}

function Page({ path, session: signedIn }: { path: readonly string[]; session: Session }) {
  const [place = "map", id] = path;
  const isOperator = signedIn.role === "operator";
  useEffect(() => {
    const title = { map: "Map", orders: "Orders", health: "Health" }[place] ?? "Not found";
    document.title = `${title} · Waybill`;
  }, [place]);
  if (place === "map" && path.length <= 1) return <MapPage />;
  if (place === "orders" && path.length === 1) return <OrdersPage isOperator={isOperator} />;
  if (place === "orders" && path.length === 2 && id !== undefined) {
    return <OrderPage key={id} id={id} isOperator={isOperator} operator={signedIn.subject} />;
  }
  if (place === "health" && path.length === 1) return isOperator ? <HealthPage /> : <OperatorsOnly />;
  return (
    <div class="empty">
      <h1>There is no such page</h1>
      <p>
        Go to the <a href="#/map">map</a> or to the <a href="#/orders">orders</a>.
      </p>
    </div>
  );
}

function OperatorsOnly() {
  return (
    <div class="empty">
      <h1>This page is for operators</h1>
      <p>
        Sign in with an operator's token to see how the server is. The <a href="#/map">map</a> and the{" "}
        <a href="#/orders">orders</a> are for you.
      </p>
    </div>
  );
}
