// What encke.js declares for TypeScript: the events of a board, by whatever way reaches it.

/** An event, as the board sent it. */
export interface BoardEvent<Value = unknown> {
  /** Where the event stands in the board's log: `LOG-SEQ`. */
  id: string;
  topic: string;
  /** Milliseconds since 1970; absent while the board does not know the time. */
  time?: number;
  /** Milliseconds since the board started, where it does not know the time. */
  uptime?: number;
  value: Value;
  /** Absent when all is well. */
  state?: "stale" | "error" | "gone";
}

export type Transport = "sse" | "ws" | "stream" | "poll" | "iframe" | "jsonp";

/**
 * `connecting`; `live`; `waiting` until `retryAt`; `busy`: all places for viewers are taken, and
 * the values come every few seconds; `asleep`: hidden, and the place on the board given back;
 * `denied`: the board wants a token, or not this one; `closed` for good.
 */
export type State = "connecting" | "live" | "waiting" | "busy" | "asleep" | "denied" | "closed";

export interface Options {
  /** Patterns as MQTT has them. Without any: those of `on`, else everything. */
  topics?: string | string[];
  /** The ways to try, the best first. Without: all that this browser has. */
  transport?: Transport | Transport[];
  /** Seconds: only the newest values, at each tick. */
  interval?: number;
  /** `NAME.SECRET`. A page of the board's own signs in with it; others send it with each request. */
  token?: string;
  /** Milliseconds without a sign of life after which a way is given up; 37500 without. */
  silence?: number;
  /** The address of the streams, where the board has a second name for them (`push_host`). */
  push?: string;
  /** `false`: a connection of its own, not shared with other tabs. */
  share?: boolean;
}

/** What the events of a board carry. */
export interface Details {
  event: BoardEvent;
  state: { state: State; transport: Transport | ""; why: string; retryAt: number };
  /** How many events were missed; `exact` is false where the board says "up to". */
  lost: { count: number; exact: boolean; message: string };
  /** The board started again: what it told before is no more. */
  reset: { message: string };
  busy: { message: string };
  error: { status: number; reason: string; message: string };
  /** A connection begins, here or in the tab that has it; and signs of life of it. */
  hello: { id: string };
  heartbeat: { id: string };
}

type Answer = (request: number, value: unknown, error: "" | { name: string; message: string }) => void;

/** What went wrong with a publish. `status` is 0 when there was no answer. */
export interface Failure extends Error {
  status: number;
  /** Milliseconds to wait, where the board says that; else 0. */
  retry: number;
}

export class Encke extends EventTarget {
  /** `url` is the board's address; without it, that of the page. */
  constructor(url?: string, options?: Options);
  static readonly transports: Transport[];
  /** Whether a topic fits a pattern. */
  static matches(pattern: string, topic: string): boolean;
  /** By encke-old.js. For older code: what a native one does of `message`, `open` and `error`. */
  static EventSource: new (url: string) => EventTarget & { readonly url: string;
    readonly readyState: 0 | 1 | 2; onopen?: (event: Event) => void;
    onmessage?: (event: MessageEvent) => void; onerror?: (event: Event) => void; close(): void };
  /** By encke-old.js. For older code, after Crockford's proposal of 2006. Times are milliseconds. */
  static JSONRequest: {
    get(url: string, done: Answer, timeout?: number): number;
    post(url: string, data: unknown, done: Answer, timeout?: number): number;
    cancel(request: number): void;
  };
  readonly state: State;
  /** The way in use, or to be tried next; empty before the first try. */
  readonly transport: Transport | "";
  /** Why it is this transport or state, in words; empty for the first choice. */
  readonly why: string;
  /** When the next try is, in milliseconds since 1970; 0 when none is due. */
  readonly retryAt: number;
  /** The id up to which everything was seen. */
  readonly id: string;
  /** Whether this tab has the connection that all tabs share. */
  readonly leads: boolean;
  /** Calls `act` with the newest event of each topic, and with all that come; ends by what it returns. */
  on<Value = unknown>(pattern: string, act: (event: BoardEvent<Value>) => void): () => void;
  /** Rejects with a `Failure`. */
  publish(topic: string, value: unknown): Promise<{ id: string; subscribers: number }>;
  close(): void;
  /**
   * Their `detail` is in `Details`. A board that goes down is told as a `state`: `waiting`, `why`
   * "the board is going down".
   */
  addEventListener<Type extends keyof Details>(type: Type,
    act: (event: CustomEvent<Details[Type]>) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, act: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions): void;
}

export default Encke;

/** By encke.js, as a script. */
type Library = typeof Encke;
declare global {
  interface Window {
    Encke: Library;
  }
}
