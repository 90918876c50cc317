// The server's texts as sentences.

/** A text of the server's, which begins small and has no end, as a sentence. */
export function asSentence(text: string): string {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}
