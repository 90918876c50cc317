// The server's refusals in words: its own sentence, what to do about it, which field it is about and when to try again.
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { asSentence } from "./sentence.js";
import { milliseconds } from "./time.js";

export interface Refusal {
  readonly code: Code;
  /** What happened, as a sentence. */
  readonly what: string;
  /** What to do about it. Empty where the sentence says it. */
  readonly advice: string;
  /** The machine's word for why, such as REFUND_TOO_LARGE. Empty if there is none. */
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** What is wrong with which field, by its path in the contract. */
  readonly fields: ReadonlyMap<string, string>;
  /** How long to wait at least, in milliseconds. 0 if the server did not say. */
  readonly retryAfter: number;
}

const ADVICE_BY_REASON: Readonly<Record<string, string>> = {
  ORDER_IN_FLIGHT: "A worker is at it right now. Try again in a moment.",
  ORDER_NOT_RESOLVABLE: "Look at its status first: it waits for no such answer any more.",
  CHARGE_STILL_SENT: "Until then a worker may send the charge again. Retry the order, or wait.",
  NO_FAILED_REFUND: "There is nothing to do again here.",
  PAYMENT_HELD: "Retry the order first, so that the hold is captured or released.",
  PROVIDER_DISAGREES: "Look the payment up at the provider, and say what its record says.",
  REFUND_PENDING: "Wait until the provider has settled it.",
  REFUND_MAY_BE_MADE: "Wait until the provider has answered.",
  REFUND_TOO_LARGE: "Choose a smaller amount.",
  AMOUNT_TOO_LARGE: "Choose a smaller amount.",
  PAYMENT_DISPUTED: "The customer's bank decides first.",
  IDEMPOTENCY_KEY_REUSED: "Close this dialog, look at what was done, and open it again.",
  ORDER_NOT_CANCELLABLE: "It is over. A refund may be what you want.",
  NO_CANCELLATION_FEE: "Leave the fee empty.",
  ORDER_AT_REST: "It is settled, and has no payment to compare. Nothing is left to do.",
};

const ADVICE_BY_CODE: Readonly<Partial<Record<Code, string>>> = {
  [Code.Unavailable]: "The server, or a store behind it, cannot be reached. It is tried again by itself.",
  [Code.DeadlineExceeded]: "The server did not answer in time. What was begun goes on: look again before you repeat it.",
  [Code.ResourceExhausted]: "Too much was asked at once. Wait a moment.",
  [Code.PermissionDenied]: "Sign in with a token whose role may do this.",
  [Code.Unimplemented]: "This server does not offer it. Its setting grpc.services has to name it.",
};

const SIGN_IN_BY_REASON: Readonly<Record<string, string>> = {
  TOKEN_MISSING: "Sign in to go on.",
  TOKEN_EXPIRED: "Your token has expired. Ask for a new one, and paste it here.",
  TOKEN_NOT_YET: "Your token is not valid yet. Check this machine's and the issuer's clock, or ask for a new one.",
  TOKEN_REVOKED: "Your token was revoked. Ask whoever runs Waybill for a new one.",
};

export function refusal(error: unknown): Refusal {
  const wrapped = ConnectError.from(error);
  const info = wrapped.findDetails(ErrorInfoSchema)[0];
  const retry = wrapped.findDetails(RetryInfoSchema)[0]?.retryDelay;
  const fields = new Map<string, string>();
  for (const bad of wrapped.findDetails(BadRequestSchema)) {
    for (const violation of bad.fieldViolations) fields.set(violation.field, violation.description);
  }
  const reason = info?.reason ?? "";
  return {
    code: wrapped.code,
    what: sentence(wrapped),
    advice: ADVICE_BY_REASON[reason] ?? ADVICE_BY_CODE[wrapped.code] ?? "",
    reason,
    metadata: info?.metadata ?? {},
    fields,
    retryAfter: retry === undefined ? 0 : milliseconds(retry),
  };
}

/** What to say with the sign-in form, after the server did not take the token. */
export function signInAdvice(error: unknown): string {
  const { reason } = refusal(error);
  return SIGN_IN_BY_REASON[reason] ?? "The server does not trust this token. Ask whoever runs Waybill for one of this server.";
}

export function isCode(error: unknown, ...codes: Code[]): boolean {
  return codes.includes(ConnectError.from(error).code);
}

function sentence(error: ConnectError): string {
  // The browser's own words for a server that is not there differ from one to the next, and help no one.
  if (error.code === Code.Unknown || error.cause instanceof TypeError) return "The server cannot be reached.";
  if (error.code === Code.DeadlineExceeded) return "The server did not answer in time.";
  const text = error.rawMessage.trim();
  if (text === "") return "The server refused it, and did not say why.";
  return asSentence(text);
}
