// The city that the fleet drew itself: grey tiles of where drivers went, inked in the theme's colour.
//
// The server sends white for where many went, on black or on nothing. Each tile becomes one ink of that strength: on a plain
// ground it is what `screen` (dark) and `multiply` (light) would give, and it costs nothing at each frame, as a blend would.
import L from "leaflet";

const SIZE = 256;

export class Trails extends L.GridLayer {
  /** How many tiles are shown that have something on them. */
  #inked = new Set<HTMLCanvasElement>();
  #ink: string;
  readonly #onInked: (isInked: boolean) => void;

  constructor(ink: string, onInked: (isInked: boolean) => void) {
    super({ minZoom: 9, minNativeZoom: 10, maxNativeZoom: 15, keepBuffer: 1, className: "trails" });
    this.#ink = ink;
    this.#onInked = onInked;
    this.on("tileunload", (event) => {
      const tile: HTMLElement = event.tile;
      if (tile instanceof HTMLCanvasElement && this.#inked.delete(tile)) this.#tell();
    });
  }

  /** Changes the ink of the tiles that are there. */
  setInk(ink: string): void {
    this.#ink = ink;
    for (const tile of this.#inked) {
      const context = tile.getContext("2d");
      if (context !== null) fill(context, ink);
    }
  }

  protected override createTile(coords: L.Coords, done: L.DoneCallback): HTMLElement {
    const tile = document.createElement("canvas");
    tile.width = SIZE;
    tile.height = SIZE;
    const image = new Image();
    // A tile that is not there is a place where no one went.
    image.onerror = () => done(undefined, tile);
    image.onload = () => {
      const context = tile.getContext("2d", { willReadFrequently: true });
      if (context !== null && strength(context, image)) {
        fill(context, this.#ink);
        this.#inked.add(tile);
        this.#tell();
      }
      done(undefined, tile);
    };
    image.src = `/trails/${coords.z}/${coords.x}/${coords.y}.png`;
    return tile;
  }

  #tell(): void {
    this.#onInked(this.#inked.size > 0);
  }
}

/** Draws the image's brightness as opacity. Returns whether there is any. */
function strength(context: CanvasRenderingContext2D, image: HTMLImageElement): boolean {
  context.drawImage(image, 0, 0, SIZE, SIZE);
  const picture = context.getImageData(0, 0, SIZE, SIZE);
  const { data } = picture;
  let isAny = false;
  for (let at = 0; at < data.length; at += 4) {
    const bright = ((data[at] ?? 0) * (data[at + 3] ?? 0)) / 255;
    data[at + 3] = bright;
    if (bright > 0) isAny = true;
  }
  context.putImageData(picture, 0, 0);
  return isAny;
}

function fill(context: CanvasRenderingContext2D, ink: string): void {
  context.globalCompositeOperation = "source-in";
  context.fillStyle = ink;
  context.fillRect(0, 0, SIZE, SIZE);
}
