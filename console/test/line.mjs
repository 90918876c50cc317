// The line between a browser and a server, which can go dead without a word: as a network does whose cable is cut.
import net from "node:net";

/** Listens in front of `origin`. */
export async function startLine(after, origin) {
  const { hostname, port } = new URL(origin);
  const pairs = new Set();
  const server = net.createServer((near) => {
    const far = net.connect(Number(port), hostname);
    const pair = [near, far];
    pairs.add(pair);
    near.pipe(far);
    far.pipe(near);
    for (const socket of pair) {
      socket.on("error", () => {});
      socket.on("close", () => {
        pairs.delete(pair);
        near.destroy();
        far.destroy();
      });
    }
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  after(() => {
    for (const [near] of pairs) near.destroy();
    server.close();
  });
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    /** The connections that there are break, and both ends know. */
    drop() {
      for (const [near] of pairs) near.destroy();
    },
    /** Nothing passes any more on the connections that there are. New ones work. */
    cut() {
      for (const [near, far] of pairs) {
        near.unpipe(far);
        far.unpipe(near);
        near.pause();
        far.pause();
      }
    },
  };
}
