// Builds dist/: generates the contract's code, checks the types, bundles. The same sources give the same bytes, which is
// what lets dist/ be committed and compared. Usage: node build.mjs [OUT]
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { licences } from "./licences.mjs";

const here = dirname(fileURLToPath(import.meta.url));
process.chdir(here);
const out = resolve(process.argv[2] ?? "dist");

const run = (...args) => execFileSync(process.execPath, args, { stdio: "inherit" });
run("node_modules/@bufbuild/buf/bin/buf", "generate");
run("node_modules/typescript/bin/tsc", "--noEmit");

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const { metafile } = await build({
  entryPoints: {
    app: "src/main.tsx",
    track: "src/track/main.ts",
  },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  // What both pages need is a file of its own: the map, and the calls.
  splitting: true,
  chunkNames: "shared",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  // Leaflet's own pictures (its layers' switch, its pins) are of controls that no page has.
  loader: { ".png": "empty" },
  // They are in licenses.txt, once.
  legalComments: "none",
  metafile: true,
  sourcemap: false,
  logLevel: "warning",
});
writeFileSync(join(out, "licenses.txt"), licences(Object.keys(metafile.inputs)));
for (const file of ["index.html", "track.html", "favicon.svg"]) copyFileSync(join("pages", file), join(out, file));

// The server embeds these files by their names.
const EXPECTED = ["app.css", "app.js", "favicon.svg", "index.html", "licenses.txt", "shared.js", "track.css", "track.html", "track.js"];
const made = readdirSync(out).sort();
if (made.join() !== EXPECTED.join()) throw new Error(`the build made ${made.join(", ")}, and should have made ${EXPECTED.join(", ")}`);

let total = 0;
for (const file of made) {
  const bytes = readFileSync(join(out, file));
  const zipped = gzipSync(bytes, { level: 9 }).length;
  total += zipped;
  console.log(`${file.padEnd(12)} ${String(bytes.length).padStart(7)} bytes ${String(zipped).padStart(7)} gzipped`);
}
console.log(`${"all".padEnd(12)} ${String(total).padStart(29)} gzipped`);
