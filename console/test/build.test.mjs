// The same sources make the same bytes, and those are the ones that are committed.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
/** What a page may weigh, compressed. A map library, a chart library and the contract are most of it. */
const LIMITS = { "shared.js": 90_000, "app.js": 60_000, "track.js": 5_000, "app.css": 9_000, "track.css": 6_000 };

test("a build makes the bytes of dist/, and each page is within its weight", () => {
  const out = join(root, ".build", "dist");
  const sizes = execFileSync(process.execPath, ["build.mjs", out], { cwd: root, encoding: "utf8" });
  const files = readdirSync(join(root, "dist")).sort();
  assert.deepEqual(readdirSync(out).sort(), files);
  for (const file of files) {
    assert.ok(readFileSync(join(out, file)).equals(readFileSync(join(root, "dist", file))), `${file} differs: run npm run build`);
  }
  for (const [file, limit] of Object.entries(LIMITS)) {
    const weight = Number(new RegExp(`^${file} .* (\\d+) gzipped$`, "m").exec(sizes)?.[1]);
    assert.ok(weight <= limit, `${file} weighs ${weight}, more than ${limit}`);
  }
});

test("the notices of all that is bundled go along", () => {
  const text = readFileSync(join(root, "dist", "licenses.txt"), "utf8");
  for (const notice of ["leaflet 1.9.4", "uplot 1.6.32", "preact 11.2.0", "@connectrpc/connect 2.3.0", "@bufbuild/protobuf 2.17.0"]) {
    assert.ok(text.includes(notice), notice);
  }
  for (const right of ["Volodymyr Agafonkin", "Leon Sorokin", "Jason Miller", "The Connect Authors", "Google Inc."]) assert.ok(text.includes(right), right);
});

test("the pages have nothing inline, and name their build", () => {
  for (const file of ["index.html", "track.html"]) {
    const html = readFileSync(join(root, "dist", file), "utf8");
    assert.doesNotMatch(html, /style=|<style|onclick|<script(?![^>]*src=)/);
    assert.match(html, /<meta name="waybill-build" content="WAYBILL_BUILD">/);
  }
});
