// All that moves on the map, in one canvas: the drivers, the orders that wait, and a ring around the one that is chosen.
// It draws a frame only while something moves, and once a second for what grows old.
import L from "leaflet";
import { age } from "../format.js";
import { theme } from "../theme.js";
import { serverNow } from "../time.js";
import { kindOf, KINDS, type Dot, type Fleet, type Kind } from "./fleet.js";
import { positionAt, progress } from "./motion.js";
import { drawGroup, radiusOf } from "./circles.js";
import { sideFor, type Group } from "./groups.js";
import { palette } from "./palette.js";
import { Raster } from "./raster.js";
import { sprites, type Sprites } from "./sprites.js";

/** An order that waits for a driver. */
export interface Waiting {
  readonly id: string;
  readonly x: number;
  readonly y: number;
  /** By the server's clock. */
  readonly since: number;
}

export interface Hit {
  readonly driver?: string;
  readonly order?: string;
  readonly group?: Group;
}

const REACH_PX = 14;

export class Dots extends L.Layer {
  readonly #canvas = L.DomUtil.create("canvas", "dots leaflet-zoom-animated");
  readonly #fleet: Fleet;
  #sprites: Sprites | null = null;
  #raster = new Raster(0, 0);
  #palette = palette();
  #ratio = 1;
  #frame = 0;
  #tick: ReturnType<typeof setInterval> | undefined;
  #isZooming = false;
  #stopTheme = () => {};
  waiting: readonly Waiting[] = [];
  /** The driver that is chosen. Empty if none is. */
  chosen = "";
  /** Called before each frame: the place to move the map with a driver. */
  beforeFrame: (now: number) => void = () => {};

  constructor(fleet: Fleet) {
    super({ pane: "markerPane" });
    this.#fleet = fleet;
  }

  override onAdd(map: L.Map): this {
    this._map = map;
    this.#canvas.setAttribute("aria-hidden", "true");
    this.getPane()?.appendChild(this.#canvas);
    this.#stopTheme = theme.listen(() => this.#repaint());
    this.#tick = setInterval(() => this.wake(), 1000);
    this.#resize();
    return this;
  }

  override onRemove(): this {
    cancelAnimationFrame(this.#frame);
    clearInterval(this.#tick);
    this.#stopTheme();
    this.#canvas.remove();
    return this;
  }

  override getEvents(): Record<string, L.LeafletEventHandlerFn> {
    return {
      move: () => this.#draw(),
      zoom: () => this.#draw(),
      viewreset: () => this.#draw(),
      zoomanim: (event) => this.#zoomTo(event as L.ZoomAnimEvent),
      zoomend: () => {
        this.#isZooming = false;
        this.#draw();
      },
      resize: () => this.#resize(),
    };
  }

  /** Something is to be drawn anew. */
  wake(): void {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      const now = performance.now();
      this.beforeFrame(now);
      this.#draw();
      if (now < this.#fleet.movesUntil) this.wake();
    });
  }

  /** What is at this point of the map: the nearest driver or order within a finger's reach. */
  at(point: L.Point): Hit | null {
    const { scale, left, top } = this.#frameOf();
    const now = performance.now();
    let best: Hit | null = null;
    let nearest = REACH_PX;
    const offer = (x: number, y: number, hit: Hit) => {
      const distance = Math.hypot(x * scale - left - point.x, y * scale - top - point.y);
      if (distance < nearest) [nearest, best] = [distance, hit];
    };
    for (const group of this.#groups()) {
      const isOn = Math.hypot(group.x * scale - left - point.x, group.y * scale - top - point.y) <= radiusOf(group.drivers);
      if (isOn) best = { group };
    }
    for (const order of this.waiting) offer(order.x, order.y, { order: order.id });
    for (const dot of this.#fleet.dots.values()) {
      const { x, y } = positionAt(dot.motion, now);
      offer(x, y, { driver: dot.id });
    }
    return best;
  }

  #frameOf(): { scale: number; left: number; top: number } {
    const scale = 256 * 2 ** this._map.getZoom();
    const { min } = this._map.getPixelBounds();
    return { scale, left: min?.x ?? 0, top: min?.y ?? 0 };
  }

  #groups(): Group[] {
    return this.#fleet.cells.size === 0 ? [] : this.#fleet.cells.groups(sideFor(this._map.getZoom()));
  }

  #repaint(): void {
    this.#sprites = sprites(this.#ratio);
    this.#palette = palette();
    this.#draw();
  }

  #resize(): void {
    const size = this._map.getSize();
    this.#ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.#canvas.width = Math.round(size.x * this.#ratio);
    this.#canvas.height = Math.round(size.y * this.#ratio);
    this.#raster = new Raster(this.#canvas.width, this.#canvas.height);
    this.#canvas.style.width = `${size.x}px`;
    this.#canvas.style.height = `${size.y}px`;
    this.#repaint();
  }

  /** The browser scales the last frame along with the map, and the next one is drawn when the map has arrived. */
  #zoomTo(event: L.ZoomAnimEvent): void {
    this.#isZooming = true;
    const map = this._map;
    const scale = map.getZoomScale(event.zoom);
    const half = map.getSize().divideBy(2);
    const pane = L.DomUtil.getPosition(map.getPane("mapPane") as HTMLElement);
    const origin = map.project(event.center, event.zoom).subtract(half).add(pane).round();
    const corner = map.project(map.containerPointToLatLng([0, 0]), event.zoom);
    L.DomUtil.setTransform(this.#canvas, corner.subtract(origin), scale);
  }

  #draw(): void {
    const context = this.#canvas.getContext("2d");
    if (context === null || this.#sprites === null || this.#isZooming) return;
    L.DomUtil.setPosition(this.#canvas, this._map.containerPointToLayerPoint([0, 0]));
    const { scale, left, top } = this.#frameOf();
    const { x: width, y: height } = this._map.getSize();
    context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const now = performance.now();
    const clock = Date.now();

    const seen: Record<Kind, number[]> = { off: [], stale: [], free: [], serving: [] };
    for (const dot of this.#fleet.dots.values()) {
      const { motion } = dot;
      const t = progress(motion, now);
      const x = (motion.fromX + (motion.toX - motion.fromX) * t) * scale - left;
      const y = (motion.fromY + (motion.toY - motion.fromY) * t) * scale - top;
      if (x > -10 && y > -10 && x < width + 10 && y < height + 10) seen[kindOf(dot, clock)].push(x, y);
    }
    this.#raster.clear();
    // A kind at a time, so that those who serve are above those who are free, and they above the others.
    for (const kind of KINDS) {
      const places = seen[kind];
      for (let at = 0; at < places.length; at += 2) {
        this.#raster.place(this.#sprites[kind], (places[at] ?? 0) * this.#ratio, (places[at + 1] ?? 0) * this.#ratio);
      }
    }
    this.#raster.copyTo(context);

    for (const group of this.#groups()) {
      const [x, y] = [group.x * scale - left, group.y * scale - top];
      if (x > -60 && y > -60 && x < width + 60 && y < height + 60) drawGroup(context, group, x, y, this.#palette);
    }

    for (const order of this.waiting) this.#drawWaiting(context, order, order.x * scale - left, order.y * scale - top);
    const chosen = this.#fleet.dots.get(this.chosen);
    if (chosen !== undefined) this.#drawChosen(context, chosen, now, scale, left, top);
  }

  #drawWaiting(context: CanvasRenderingContext2D, order: Waiting, x: number, y: number): void {
    context.strokeStyle = this.#palette.map;
    context.lineWidth = 5;
    context.beginPath();
    context.arc(x, y, 9, 0, 2 * Math.PI);
    context.stroke();
    context.strokeStyle = this.#palette.waiting;
    context.lineWidth = 2.5;
    context.stroke();
    const text = age(serverNow() - order.since);
    context.font = "600 11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.lineJoin = "round";
    context.strokeStyle = this.#palette.map;
    context.strokeText(text, x + 14, y + 0.5);
    context.fillStyle = this.#palette.waiting;
    context.fillText(text, x + 14, y + 0.5);
  }

  #drawChosen(context: CanvasRenderingContext2D, dot: Dot, now: number, scale: number, left: number, top: number): void {
    const { x, y } = positionAt(dot.motion, now);
    context.strokeStyle = this.#palette.text;
    context.lineWidth = 2;
    context.beginPath();
    context.arc(x * scale - left, y * scale - top, 11, 0, 2 * Math.PI);
    context.stroke();
  }
}
