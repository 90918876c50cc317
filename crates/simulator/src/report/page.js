// Shows at once, beside the pointer, what browsers without scripts show after a moment: the title of the column that the
// pointer is over. The titles are taken away from the browser for it. After a touch they stay until the page is moved.
"use strict";
const values = document.getElementById("values");
for (const column of document.querySelectorAll(".at")) {
  const title = column.querySelector("title");
  const text = title.textContent;
  title.remove();
  const show = (pointer) => {
    values.textContent = text;
    values.hidden = false;
    const room = document.documentElement.clientWidth - values.offsetWidth - 8;
    values.style.left = Math.max(8, Math.min(pointer.clientX + 16, room)) + "px";
    values.style.top = Math.max(8, pointer.clientY - values.offsetHeight - 12) + "px";
  };
  column.addEventListener("pointerenter", show);
  column.addEventListener("pointermove", show);
  column.addEventListener("pointerleave", (pointer) => { values.hidden = pointer.pointerType === "mouse"; });
}
document.addEventListener("scroll", () => { values.hidden = true; });
