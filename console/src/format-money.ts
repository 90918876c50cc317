// Amounts of money as decimal numbers, and back. They are exact: money is never a float.

/** How many digits the currency has after the point, by ISO 4217. */
export function digitsOf(currency: string): number {
  try {
    const format = new Intl.NumberFormat("en", { style: "currency", currency });
    return format.resolvedOptions().maximumFractionDigits ?? 2;
  } catch {
    return 2;
  }
}

/** Minor units as a decimal number: 1990 USD is "19.90". Exact, also beyond what a float can hold. */
export function decimal(minorUnits: bigint, currency: string): string {
  const digits = digitsOf(currency);
  const sign = minorUnits < 0n ? "-" : "";
  const text = (minorUnits < 0n ? -minorUnits : minorUnits).toString().padStart(digits + 1, "0");
  if (digits === 0) return sign + text;
  return `${sign}${text.slice(0, -digits)}.${text.slice(-digits)}`;
}

/** The minor units of a decimal number, or null if it is none of this currency. */
export function minorUnits(text: string, currency: string): bigint | null {
  const digits = digitsOf(currency);
  const match = /^(\d{1,15})(?:[.,](\d+))?$/.exec(text.trim().replace(/[\s']/g, ""));
  if (match === null) return null;
  const fraction = match[2] ?? "";
  if (fraction.length > digits) return null;
  return BigInt((match[1] ?? "0") + fraction.padEnd(digits, "0"));
}
