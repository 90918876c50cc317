// The row of what can be done about the order, and the dialog of the act that was chosen.
import { useState } from "preact/hooks";
import { ActDialog } from "./act-dialog.js";
import { actsFor, type Act } from "./acts.js";
import type { OrderView } from "./view.js";

interface Properties {
  order: OrderView;
  isOperator: boolean;
  operator: string;
  refresh(): void;
}

export function Actions({ order, isOperator, operator, refresh }: Properties) {
  // The act as it was when it was chosen: the order's next state must not change a form that is being filled in.
  const [act, setAct] = useState<Act | null>(null);
  const acts = actsFor(order, isOperator, operator);
  if (acts.length === 0 && act === null) return null;
  return (
    <div class="actions" role="group" aria-label="What can be done">
      {acts.map((offered) => (
        <button key={offered.name} type="button" class="button" onClick={() => setAct(offered)}>
          {offered.label}
        </button>
      ))}
      {act !== null && <ActDialog act={act} close={() => setAct(null)} done={refresh} />}
    </div>
  );
}
