// Runs the tests, one file at a time: each has a server and a browser of its own, and one of them counts frames. At the end one
// line says how it went. Usage: node test/run.mjs [FILE...]
import { readdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const named = process.argv.slice(2).map((file) => resolve(file));
const all = readdirSync(here).filter((file) => file.endsWith(".test.mjs")).sort().map((file) => join(here, file));
const count = { pass: 0, fail: 0, skipped: 0 };

const stream = run({ files: named.length > 0 ? named : all, concurrency: 1 });
// A file that fails before its first test is a failure, too, and is told as one.
stream.on("test:pass", ({ skip }) => { count[skip === undefined ? "pass" : "skipped"] += 1; });
stream.on("test:fail", () => { count.fail += 1; });
stream.on("end", () => {
  const { pass, fail, skipped } = count;
  const isOk = fail === 0 && skipped === 0 && pass > 0;
  // After the reporter's own last lines.
  process.on("exit", () => {
    console.log(`test result: ${isOk ? "ok" : "FAILED"}. ${pass} passed; ${fail} failed; ${skipped} skipped`);
    process.exitCode = isOk ? 0 : 1;
  });
});
stream.compose(new spec()).pipe(process.stdout);
