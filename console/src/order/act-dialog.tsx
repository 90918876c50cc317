// One act's dialog: its fields, the server's refusal beside them, and what was done.
import { useMemo, useState } from "preact/hooks";
import { refusal, type Refusal } from "../errors.js";
import { Dialog } from "../parts/dialog.js";
import { describedBy, Field } from "../parts/field.js";
import { RefusalNote } from "../parts/refusal.js";
import type { Act, FieldSpec, Values } from "./acts.js";

interface Properties {
  act: Act;
  close(): void;
  done(): void;
}

export function ActDialog({ act, close, done }: Properties) {
  // One key for all repeats of this dialog: an answer that was lost does not make a second refund.
  const key = useMemo(() => `console-${crypto.randomUUID()}`, []);
  const [values, setValues] = useState<Values>(() => initial(act));
  const [isBusy, setIsBusy] = useState(false);
  const [refused, setRefused] = useState<Refusal | null>(null);
  const [problems, setProblems] = useState<Readonly<Record<string, string>>>({});
  const [result, setResult] = useState("");
  const shown = act.fields.filter((field) => field.isShown?.(values) ?? true);

  const submit = async (event: Event) => {
    event.preventDefault();
    if (isBusy) return;
    const found = act.check?.(values) ?? {};
    setProblems(found);
    if (Object.keys(found).length > 0) return;
    setIsBusy(true);
    setRefused(null);
    try {
      setResult(await act.run(values, key));
    } catch (error) {
      setRefused(refusal(error));
    } finally {
      setIsBusy(false);
      done();
    }
  };

  if (result !== "") {
    return (
      <Dialog title={act.title} close={close}>
        <p class="done" role="status">
          {result.startsWith("http") ? <LinkResult link={result} /> : result}
        </p>
        <div class="dialog-buttons">
          <button type="button" class="button primary" autofocus onClick={close}>
            Close
          </button>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title={act.title} close={close}>
      <form onSubmit={submit}>
        <p class="explain">{act.explain}</p>
        {shown.map((field, at) => (
          <Input
            key={field.name}
            isFirst={at === 0}
            field={field}
            value={values[field.name] ?? ""}
            problem={problems[field.name] ?? violation(field, refused)}
            change={(value) => setValues({ ...values, [field.name]: value })}
          />
        ))}
        {refused !== null && <RefusalNote refusal={refused} shown={shown.flatMap((field) => field.paths)} />}
        <div class="dialog-buttons">
          <button type="button" class="button" onClick={close}>
            Back
          </button>
          <button type="submit" class={act.isGrave ? "button grave" : "button primary"} aria-disabled={isBusy}>
            {isBusy ? "One moment…" : act.label}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function LinkResult({ link }: { link: string }) {
  const [isCopied, setIsCopied] = useState(false);
  return (
    <>
      <label for="link">The link. It is shown this once.</label>
      <input id="link" class="mono" readOnly value={link} onFocus={(event) => event.currentTarget.select()} />
      <button
        type="button"
        class="button"
        onClick={() => {
          void navigator.clipboard?.writeText(link).then(() => setIsCopied(true));
        }}
      >
        {isCopied ? "Copied" : "Copy"}
      </button>
    </>
  );
}

interface InputProperties {
  field: FieldSpec;
  value: string;
  problem: string | undefined;
  /** The dialog opens with the keyboard in it. */
  isFirst: boolean;
  change(value: string): void;
}

function Input({ field, value, problem, isFirst, change }: InputProperties) {
  const id = `act-${field.name}`;
  if (field.kind === "check") {
    return (
      <label class="check">
        <input type="checkbox" checked={value === "yes"} onChange={(event) => change(event.currentTarget.checked ? "yes" : "")} />
        {field.label}
      </label>
    );
  }
  const common = {
    id,
    value,
    autofocus: isFirst,
    required: field.isRequired === true,
    "aria-describedby": describedBy(id),
    "aria-invalid": problem !== undefined,
  };
  return (
    <Field id={id} label={field.label} hint={field.hint ?? ""} problem={problem}>
      {field.kind === "choice" ? (
        <select {...common} onChange={(event) => change(event.currentTarget.value)}>
          {field.choices?.map(([choice, label]) => (
            <option key={choice} value={choice}>
              {label}
            </option>
          ))}
        </select>
      ) : (
        <input
          {...common}
          type="text"
          autocomplete="off"
          maxLength={500}
          inputMode={field.kind === "amount" ? "decimal" : "text"}
          onInput={(event) => change(event.currentTarget.value)}
        />
      )}
    </Field>
  );
}

function initial(act: Act): Values {
  return Object.fromEntries(act.fields.map((field) => [field.name, field.initial ?? ""]));
}

function violation(field: FieldSpec, refused: Refusal | null): string | undefined {
  if (refused === null) return undefined;
  return field.paths.map((path) => refused.fields.get(path)).find((problem) => problem !== undefined);
}
