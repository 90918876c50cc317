// Notices that the server runs a newer version than this page is from: each answer says its build.
import { Cell } from "./cell.js";

const built = document.querySelector<HTMLMetaElement>('meta[name="waybill-build"]')?.content ?? "";

/** Whether the page should be loaded again. */
export const isOutdated = new Cell(false);

/** `fetch`, looking at the build of each answer. */
export const fetchNotingBuild: typeof fetch = async (input, init) => {
  const response = await fetch(input, init);
  const theirs = response.headers.get("x-waybill-build");
  if (theirs !== null && built !== "" && theirs !== built) isOutdated.value = true;
  return response;
};
