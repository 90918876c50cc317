// How a dot moves from one fix to the next. Fixes come a second or a minute apart; a dot that is drawn where the last one was
// would jump. So it goes there in the time that fixes take to come, and is never more than a few seconds behind.
import { metres, type World } from "./mercator.js";

const SHORTEST_MS = 300;
const LONGEST_MS = 4_000;
/** A little more than the gap, so that a dot does not stop and start between fixes that come evenly. */
const OVERLAP = 1.15;
/** Farther than this is no drive: the recording began anew, or the device was off. */
const JUMP_M = 3_000;

export interface Motion {
  fromX: number;
  fromY: number;
  toX: number;
  toY: number;
  beganAt: number;
  endsAt: number;
  /** When the last fix came. */
  cameAt: number;
}

export function standing(at: World, now: number): Motion {
  return { fromX: at.x, fromY: at.y, toX: at.x, toY: at.y, beganAt: now, endsAt: now, cameAt: now };
}

/** Sets the motion towards a new fix, from where the dot is drawn now. */
export function moveTo(motion: Motion, to: World, now: number, isStill: boolean): void {
  const gap = now - motion.cameAt;
  motion.cameAt = now;
  if (to.x === motion.toX && to.y === motion.toY) return;
  const from = positionAt(motion, now);
  const takes = Math.min(LONGEST_MS, Math.max(SHORTEST_MS, gap * OVERLAP));
  const isJump = isStill || metres(from, to) > JUMP_M;
  motion.fromX = isJump ? to.x : from.x;
  motion.fromY = isJump ? to.y : from.y;
  motion.toX = to.x;
  motion.toY = to.y;
  motion.beganAt = now;
  motion.endsAt = isJump ? now : now + takes;
}

/** How much of the way is behind, from 0 to 1. */
export function progress(motion: Motion, now: number): number {
  if (now >= motion.endsAt) return 1;
  return Math.max(0, (now - motion.beganAt) / (motion.endsAt - motion.beganAt));
}

export function positionAt(motion: Motion, now: number): World {
  const t = progress(motion, now);
  return {
    x: motion.fromX + (motion.toX - motion.fromX) * t,
    y: motion.fromY + (motion.toY - motion.fromY) * t,
  };
}
