// The form for a token, and the page for those whom the console is not for.
import { useState } from "preact/hooks";
import { useCell } from "./cell.js";
import { describedBy, Field } from "./parts/field.js";
import { ThemeButton } from "./parts/theme-button.js";
import { farewell, signIn, signOut, type Role, type Session } from "./session.js";

export function SignIn() {
  const why = useCell(farewell);
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState("");
  const submit = (event: Event) => {
    event.preventDefault();
    setProblem(signIn(token));
  };
  return (
    <main class="gate">
      <div class="gate-corner">
        <ThemeButton />
      </div>
      <form class="gate-box" onSubmit={submit}>
        <Brand />
        <h1>Sign in</h1>
        {why !== "" && why !== problem && (
          <p class="note note-warn" role="status">
            {why}
          </p>
        )}
        <Field
          id="token"
          label="Token"
          hint="It begins with “ey”. Your identity provider issues it; a private server prints a link that brings it along."
          problem={problem === "" ? undefined : problem}
        >
          <textarea
            id="token"
            rows={4}
            required
            class="mono"
            spellcheck={false}
            autocomplete="off"
            aria-describedby={describedBy("token")}
            value={token}
            onInput={(event) => setToken(event.currentTarget.value)}
          />
        </Field>
        <button type="submit" class="button primary">
          Sign in
        </button>
        <p class="dim">It stays in this tab until you sign out or close it.</p>
      </form>
    </main>
  );
}

const INSTEAD: Readonly<Partial<Record<Role, string>>> = {
  customer: "Follow your order in your app, or by a link that was shared with you.",
  driver: "Your orders are in your driver's app.",
  service: "Programs call the services with such a token. A person needs one of their own.",
};

export function NotForYou({ session }: { session: Session }) {
  const { subject, role } = session;
  return (
    <main class="gate">
      <div class="gate-corner">
        <ThemeButton />
      </div>
      <div class="gate-box">
        <Brand />
        <h1>This page is for dispatchers and operators</h1>
        <p role="status">
          You are signed in as <b>{subject}</b>, in the role <b>{role}</b>, which is not for this page. {INSTEAD[role]}
        </p>
        <button type="button" class="button primary" onClick={() => signOut()}>
          Sign in with another token
        </button>
      </div>
    </main>
  );
}

function Brand() {
  return (
    <p class="gate-brand">
      <svg viewBox="0 0 32 32" aria-hidden="true">
        <path d="M5 10l5.5 13L16 12l5.5 11L27 10" />
        <circle cx="27" cy="8" r="3.4" />
      </svg>
      Waybill
    </p>
  );
}
