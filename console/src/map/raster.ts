// A picture of many small stamps, put together in memory and copied to the canvas at once.
//
// With the canvas's own calls, 5,000 dots took 20 ms a frame and more, since each call is recorded, sent and drawn by itself: half
// of the frames were lost (a path of 5,000 circles lost nine tenths). Copying their pixels takes a few.

/** A stamp at one place between two pixels: the pixels that are not empty, those that hide what is below them first. */
interface Shift {
  readonly x: Int32Array;
  readonly y: Int32Array;
  /** As the memory of an ImageData has them. */
  readonly colour: Uint32Array;
  /** How many of them hide what is below. */
  readonly opaque: number;
}

/** A picture in all its places between two pixels, so that slow dots glide and do not hop. */
export interface Stamp {
  /** Its width and height in pixels. */
  readonly size: number;
  /** By the part of a pixel: `[PARTS * y + x]`. */
  readonly shifts: readonly Shift[];
}

/** Into how many parts a pixel is divided along each axis. */
const PARTS = 4;

/** Draws a stamp. `draw` has its origin in the middle of it. */
export function stamp(size: number, ratio: number, draw: (context: CanvasRenderingContext2D) => void): Stamp {
  const pixels = Math.ceil(size * ratio) + 1;
  const canvas = document.createElement("canvas");
  canvas.width = pixels;
  canvas.height = pixels;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const shifts: Shift[] = [];
  for (let part = 0; part < PARTS * PARTS && context !== null; part += 1) {
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, pixels, pixels);
    const half = (pixels - 1) / 2;
    context.setTransform(ratio, 0, 0, ratio, half + (part % PARTS) / PARTS, half + Math.floor(part / PARTS) / PARTS);
    draw(context);
    shifts.push(shift(context.getImageData(0, 0, pixels, pixels)));
  }
  return { size: pixels, shifts };
}

function shift({ data, width }: ImageData): Shift {
  const all = [...new Uint32Array(data.buffer)].map((colour, at) => ({ colour, x: at % width, y: Math.floor(at / width) }));
  const opaque = all.filter(({ colour }) => colour >>> 24 === 255);
  const partly = all.filter(({ colour }) => colour >>> 24 !== 255 && colour >>> 24 !== 0);
  const kept = [...opaque, ...partly];
  return {
    x: Int32Array.from(kept, ({ x }) => x),
    y: Int32Array.from(kept, ({ y }) => y),
    colour: Uint32Array.from(kept, ({ colour }) => colour),
    opaque: opaque.length,
  };
}

export class Raster {
  readonly #image: ImageData;
  readonly #pixels: Uint32Array;
  /** How far each pixel of a shift is from its corner in this picture's memory. */
  readonly #offsets = new Map<Shift, Int32Array>();
  // What is not empty: from a corner to before another one.
  #left = 0;
  #top = 0;
  #right = 0;
  #bottom = 0;

  constructor(readonly width: number, readonly height: number) {
    this.#image = new ImageData(Math.max(1, width), Math.max(1, height));
    this.#pixels = new Uint32Array(this.#image.data.buffer);
  }

  clear(): void {
    for (let y = this.#top; y < this.#bottom; y += 1) {
      this.#pixels.fill(0, y * this.width + this.#left, y * this.width + this.#right);
    }
    this.#left = this.width;
    this.#top = this.height;
    this.#right = 0;
    this.#bottom = 0;
  }

  /** Puts the stamp's middle at a place, in pixels. */
  place(stamp: Stamp, x: number, y: number): void {
    const { size, shifts } = stamp;
    const half = (size - 1) / 2;
    const left = Math.floor(x - half);
    const top = Math.floor(y - half);
    const shift = shifts[Math.floor((y - half - top) * PARTS) * PARTS + Math.floor((x - half - left) * PARTS)];
    if (shift === undefined || left + size <= 0 || top + size <= 0 || left >= this.width || top >= this.height) return;
    const isWhole = left >= 0 && top >= 0 && left + size <= this.width && top + size <= this.height;
    this.#left = Math.max(0, Math.min(this.#left, left));
    this.#top = Math.max(0, Math.min(this.#top, top));
    this.#right = Math.min(this.width, Math.max(this.#right, left + size));
    this.#bottom = Math.min(this.height, Math.max(this.#bottom, top + size));
    if (isWhole) copy(this.#pixels, shift, this.#offsetsOf(shift), top * this.width + left);
    else this.#copyPart(shift, left, top);
  }

  /** Copies what there is to the canvas, whose other pixels stay. */
  copyTo(context: CanvasRenderingContext2D): void {
    const width = this.#right - this.#left;
    const height = this.#bottom - this.#top;
    if (width > 0 && height > 0) context.putImageData(this.#image, 0, 0, this.#left, this.#top, width, height);
  }

  #offsetsOf(shift: Shift): Int32Array {
    let offsets = this.#offsets.get(shift);
    if (offsets === undefined) {
      offsets = shift.x.map((x, at) => (shift.y[at] ?? 0) * this.width + x);
      this.#offsets.set(shift, offsets);
    }
    return offsets;
  }

  /** At an edge each pixel has to be looked at. */
  #copyPart(shift: Shift, left: number, top: number): void {
    for (let at = 0; at < shift.colour.length; at += 1) {
      const x = left + (shift.x[at] ?? 0);
      const y = top + (shift.y[at] ?? 0);
      if (x < 0 || y < 0 || x >= this.width || y >= this.height) continue;
      const place = y * this.width + x;
      const above = shift.colour[at] ?? 0;
      this.#pixels[place] = at < shift.opaque ? above : over(above, this.#pixels[place] ?? 0);
    }
  }
}

/** The loop in which the time of a frame goes: it has no calls, and no place outside of the picture. */
function copy(pixels: Uint32Array, shift: Shift, offsets: Int32Array, corner: number): void {
  const { colour, opaque } = shift;
  const count = colour.length;
  for (let at = 0; at < opaque; at += 1) pixels[corner + offsets[at]!] = colour[at]!;
  for (let at = opaque; at < count; at += 1) {
    const place = corner + offsets[at]!;
    pixels[place] = over(colour[at]!, pixels[place]!);
  }
}

/** A pixel that is partly seen through, on another one. On nothing it stays as it is; else what is below counts as opaque. */
function over(above: number, below: number): number {
  if (below === 0) return above;
  const opacity = above >>> 24;
  const rest = 255 - opacity;
  const ends = ((above & 0xff00ff) * opacity + (below & 0xff00ff) * rest) >>> 8;
  const middle = (((above >>> 8) & 0xff) * opacity + ((below >>> 8) & 0xff) * rest) >>> 8;
  return ((below & 0xff000000) | (ends & 0xff00ff) | (middle << 8)) >>> 0;
}
