// Ages as people say them. It has a file of its own because the tracking page needs nothing else of `format`.

/** An age in one unit or two, such as "40 s", "3 min 20 s", "5 h" or "12 d". */
export function age(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  const min = Math.floor(s / 60);
  if (min < 10 && s % 60 !== 0) return `${min} min ${s % 60} s`;
  if (min < 60) return `${min} min`;
  const h = Math.floor(min / 60);
  if (h < 10 && min % 60 !== 0) return `${h} h ${min % 60} min`;
  if (h < 48) return `${h} h`;
  return `${Math.floor(h / 24)} d`;
}
