// A dialog that asks before something is done. It is the browser's own: it keeps the keyboard inside, and Escape closes it.
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Icon } from "./icons.js";

interface Properties {
  title: string;
  close(): void;
  children: ComponentChildren;
}

export function Dialog({ title, close, children }: Properties) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={element}
      class="dialog"
      aria-labelledby="dialog-title"
      onClose={close}
      onClick={(event) => {
        // A click beside it: the dialog's own box is all covered by its content.
        if (event.target === element.current) close();
      }}
    >
      <div class="dialog-box">
        <header class="dialog-head">
          <h2 id="dialog-title">{title}</h2>
          <button type="button" class="button icon-button" aria-label="Close" onClick={close}>
            <Icon name="close" />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}
