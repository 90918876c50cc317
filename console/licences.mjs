// The notices of what is bundled: its authors ask that they go along with every copy. They are read from the packages, so that
// a new dependency cannot be forgotten.
import { existsSync, readFileSync } from "node:fs";

/** @param inputs the paths of all that went into the bundles, as esbuild names them */
export function licences(inputs) {
  const files = new Map();
  for (const path of [...inputs].sort()) {
    const name = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1];
    if (name !== undefined) files.set(name, [...(files.get(name) ?? []), path]);
  }
  const notices = [...files].map(([name, paths]) => {
    const { version, license } = JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8"));
    return `${name} ${version} (${license})\n\n${notice(name, paths)}`;
  });
  const apache = readFileSync("../LICENSE", "utf8").trim();
  const line = "-".repeat(100);
  return `${[
    "What Waybill's pages are made of, and under which licences it may be used.",
    ...notices,
    `The Apache License 2.0, under which Waybill itself is, too\n\n${apache}`,
  ].join(`\n\n${line}\n\n`)}\n`;
}

/** The package's own file; where it has none, what its sources say at their heads. */
function notice(name, paths) {
  const file = ["LICENSE", "LICENSE.md", "LICENSE.txt"].map((each) => `node_modules/${name}/${each}`).find((each) => existsSync(each));
  if (file !== undefined) return readFileSync(file, "utf8").trim();
  const heads = new Set(paths.map((path) => head(readFileSync(path, "utf8"))).filter((text) => text !== ""));
  if (heads.size === 0) throw new Error(`${name} has no licence that could be named: look at it before it is bundled`);
  return [...heads].join("\n\n");
}

/** The lines of comment with which a source begins, if they name a right. */
function head(source) {
  const lines = [];
  for (const line of source.split("\n")) {
    if (!line.startsWith("//")) break;
    lines.push(line.replace(/^\/\/ ?/, ""));
  }
  return /copyright/i.test(lines.join("\n")) ? lines.join("\n").trim() : "";
}
