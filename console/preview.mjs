// Serves the pages of a folder in front of a running server, as the server itself serves those that it has embedded: for work
// on the pages, without a build of the server. Usage: node preview.mjs [DEV_ENV] [DIST], which prints its address.
import { readFileSync } from "node:fs";
import http from "node:http";
import { dirname, extname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

/** The policy of every answer: nothing from elsewhere, nothing inline. */
export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8" };

/** The lines NAME=VALUE of a dev.env. */
export function readEnv(file) {
  const lines = readFileSync(file, "utf8").matchAll(/^(?:export )?([A-Z_]+)=(.*)$/gm);
  return Object.fromEntries([...lines].map(([, name, value]) => [name, value.replace(/^["']|["']$/g, "")]));
}

/** Listens on a free port of the loopback. `state.build` is the build that its answers name. */
export async function preview({ upstream, dist = join(here, "dist"), port = 0 }) {
  const state = { build: "preview" };
  const [host, upstreamPort] = upstream.split(":");
  const server = http.createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://preview");
    const headers = { "content-security-policy": POLICY, "x-waybill-build": state.build };
    const send = (name) => {
      const type = TYPES[extname(name)] ?? "application/octet-stream";
      let body = readFileSync(join(dist, name));
      if (name.endsWith(".html")) body = body.toString().replace("WAYBILL_BUILD", state.build);
      response.writeHead(200, { ...headers, "content-type": type, "cache-control": "no-cache" }).end(body);
    };
    if (pathname === "/") return send("index.html");
    if (pathname === "/t/") return send("track.html");
    if (/^\/assets\/[a-z.]+$/.test(pathname)) return send(pathname.slice(8));
    if (pathname === "/config.json") {
      const body = JSON.stringify({ tiles: "", tiles_attribution: "", build: state.build });
      return response.writeHead(200, { ...headers, "content-type": "application/json" }).end(body);
    }
    const onward = http.request(
      { host, port: upstreamPort, path: request.url, method: request.method, headers: request.headers },
      (answer) => {
        response.writeHead(answer.statusCode, { ...answer.headers, ...headers });
        response.flushHeaders();
        answer.pipe(response);
      },
    );
    onward.on("error", () => response.headersSent ? response.destroy() : response.writeHead(502, headers).end());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  });
  await new Promise((listening) => server.listen(port, "127.0.0.1", listening));
  return {
    state,
    origin: `http://127.0.0.1:${server.address().port}`,
    close: () => {
      server.closeAllConnections();
      return new Promise((closed) => server.close(closed));
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , file = "../.waybill/dev.env", dist] = process.argv;
  const env = readEnv(resolve(file));
  const running = await preview({ upstream: env.WEB_ADDR, port: 7299, ...(dist === undefined ? {} : { dist: resolve(dist) }) });
  for (const role of ["OPERATOR", "DISPATCHER"]) console.log(`${running.origin}/#token=${env[`${role}_TOKEN`]}`);
}
