// Runs the tests: each file has a server and a browser of its own. Two files run at a time, for they wait most of the time; then, one by one, those
// that hold a page to a time or count its frames. At the end one line says how it went. Usage: node test/run.mjs [FILE...]
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const named = process.argv.slice(2).map((file) => resolve(file));
const all = readdirSync(here).filter((file) => file.endsWith(".test.mjs")).sort().map((file) => join(here, file));
const ALONE = ["frames.test.mjs", "live.test.mjs"];
const count = { pass: 0, fail: 0, skipped: 0 };

async function runAll(files, concurrency) {
  if (files.length === 0) return;
  const stream = run({ files, concurrency });
  // A file that fails before its first test is a failure, too, and is told as one.
  stream.on("test:pass", ({ skip }) => { count[skip === undefined ? "pass" : "skipped"] += 1; });
  stream.on("test:fail", () => { count.fail += 1; });
  const lines = stream.compose(new spec());
  lines.pipe(process.stdout, { end: false });
  await once(lines, "end");
}

const files = named.length > 0 ? named : all;
const isAlone = (file) => ALONE.includes(basename(file));
await runAll(files.filter((file) => !isAlone(file)), 2);
await runAll(files.filter(isAlone), 1);
const { pass, fail, skipped } = count;
const isOk = fail === 0 && skipped === 0 && pass > 0;
console.log(`test result: ${isOk ? "ok" : "FAILED"}. ${pass} passed; ${fail} failed; ${skipped} skipped`);
process.exitCode = isOk ? 0 : 1;
