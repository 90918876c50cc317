// A private Waybill for one file of tests, and whoever calls it. The program is that of WAYBILL, or the workspace's own build.
//
// The pages are those that it has embedded. With PREVIEW=1 they are those of dist/, served in front of it: for work on the pages
// without a build of the server.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { preview, readEnv } from "../preview.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const BUILDS = ["release", "debug"].map((profile) => resolve(here, "../../target", profile, "waybill"));
const START_MS = 60_000;

function program() {
  const found = process.env.WAYBILL ?? BUILDS.find((path) => existsSync(path));
  if (found === undefined) throw new Error(`no program: build one, or name it with WAYBILL (looked for ${BUILDS.join(", ")})`);
  return found;
}

/** Starts a server, and stops it when the tests of the file are over. `environment` has settings of it. */
export async function startWaybill(after, environment = {}) {
  const folder = mkdtempSync(join(tmpdir(), "waybill-console-"));
  // As root its stores run as another user, who has to enter the folder.
  chmodSync(folder, 0o755);
  const log = join(folder, "log");
  const data = join(folder, "data");
  const any = "127.0.0.1:0";
  const args = ["dev", "--data-dir", data];
  for (const listener of ["grpc", "http", "webhooks", "web"]) args.push(`--${listener}-addr`, any);
  const output = openSync(log, "w");
  const child = spawn(program(), args, { stdio: ["ignore", output, output], env: { ...process.env, ...environment } });
  const said = () => readFileSync(log, "utf8");
  const ended = once(child, "exit");
  const stop = async () => {
    if (child.exitCode === null) {
      // One that is frozen would not hear it.
      child.kill("SIGCONT");
      child.kill("SIGTERM");
      await ended;
    }
    rmSync(folder, { recursive: true, force: true });
  };

  await until(START_MS, () => said().includes("waybill is ready") || child.exitCode !== null);
  if (child.exitCode !== null || !said().includes("waybill is ready")) {
    const text = said();
    await stop();
    throw new Error(`the server did not start:\n${text}`);
  }
  const env = readEnv(join(data, "dev.env"));
  const front = process.env.PREVIEW === "1" ? await preview({ upstream: env.WEB_ADDR }) : null;
  after(async () => {
    await front?.close();
    await stop();
  });
  return {
    /** Where the pages are, and the services for browsers. */
    origin: front?.origin ?? `http://${env.WEB_ADDR}`,
    token: (role) => env[`${role.toUpperCase()}_TOKEN`],
    freeze: () => child.kill("SIGSTOP"),
    thaw: () => child.kill("SIGCONT"),
    front,
  };
}

/** Waits for a condition. Whether it holds in the end. */
export async function until(deadlineMs, condition) {
  const end = Date.now() + deadlineMs;
  for (;;) {
    if (await condition()) return true;
    if (Date.now() >= end) return false;
    await new Promise((next) => setTimeout(next, 50));
  }
}
