// A labelled field, with its hint and what the server says is wrong with it.
import type { ComponentChildren } from "preact";

interface Properties {
  id: string;
  label: string;
  hint?: string;
  problem?: string | undefined;
  children: ComponentChildren;
}

/** The field's own element is the child. It names `describedBy(id)` as what describes it. */
export function Field({ id, label, hint, problem, children }: Properties) {
  return (
    <div class={problem === undefined ? "field" : "field field-bad"}>
      <label for={id}>{label}</label>
      {children}
      <p class="field-note" id={describedBy(id)}>
        {problem === undefined ? hint : <span role="alert">{problem}</span>}
      </p>
    </div>
  );
}

export const describedBy = (id: string): string => `${id}-note`;
