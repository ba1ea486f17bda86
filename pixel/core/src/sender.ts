// Sends events to the collector: the first at once, and those that follow before its answer as the next batch.
// A request outlives its page (`keepalive`), is never a beacon, and carries no cookies.

import { bytesOf } from './event';

/** Browsers allow 64 KiB of bodies in flight with `keepalive`; the collector accepts 512 KiB. */
export const MAX_BATCH_BYTES = 60_000;
/** The collector accepts no more events in a batch. */
export const MAX_BATCH_EVENTS = 256;
/** Further events are dropped while this many wait. */
export const MAX_WAITING = 500;
/** The batch is dropped after more failures in a row than this: after two to three minutes. */
export const MAX_FAILURES = 8;

const TIMEOUT_MS = 10_000;
const MAX_BACKOFF_MS = 60_000;

export class Sender {
  private waiting: string[] = [];
  private requests = 0;
  private failures = 0;
  private isPaused = false;

  /**
   * @param url The collector's pixel endpoint with the shop's token.
   * @param isSudden Whether the page may end without notice, so that no event may wait for an answer.
   */
  constructor(
    private readonly url: string,
    private readonly isSudden: boolean,
  ) {}

  /** Sends an event's JSON: at once, or with the next batch. */
  send(event: string): void {
    if (this.waiting.length < MAX_WAITING) this.waiting.push(event);
    if (this.isSudden && !this.isPaused) this.flush();
    else this.next();
  }

  /** Sends all waiting events, even during a pause, because the page may be about to end. */
  flush(): void {
    while (this.waiting.length) void this.deliver(this.batch());
  }

  private next(): void {
    if (this.waiting.length && !this.requests && !this.isPaused) void this.deliver(this.batch());
  }

  /** Removes the next batch from the waiting events. */
  private batch(): string[] {
    let bytes = 0;
    const rest = this.waiting.findIndex((event, index) => {
      bytes += bytesOf(event) + 1;
      return index > 0 && (bytes > MAX_BATCH_BYTES || index >= MAX_BATCH_EVENTS);
    });
    return this.waiting.splice(0, rest < 0 ? this.waiting.length : rest);
  }

  private async deliver(events: string[]): Promise<void> {
    this.requests += 1;
    const retryAfter = await post(this.url, `[${events.join()}]`);
    this.requests -= 1;
    if (retryAfter === undefined) {
      this.failures = 0;
    } else if (this.isPaused || ++this.failures <= MAX_FAILURES) {
      // Requests that were under way together fail together: that is one failure.
      this.waiting.unshift(...events);
      this.pause(retryAfter);
    }
    this.next();
  }

  private pause(retryAfter: number): void {
    if (this.isPaused) return;
    this.isPaused = true;
    // Visitors who lost the collector at the same moment retry at different ones.
    const backoff = 500 * 2 ** this.failures * (0.5 + Math.random() / 2);
    setTimeout(
      () => {
        this.isPaused = false;
        this.next();
      },
      Math.max(retryAfter * 1000, Math.min(backoff, MAX_BACKOFF_MS)),
    );
  }
}

/** Posts a batch; returns undefined if the answer is final, else the seconds that the collector asks to wait, or 0. */
async function post(url: string, body: string): Promise<number | undefined> {
  try {
    const answer = await Promise.race([
      // A text body is `text/plain`, which needs no preflight.
      fetch(url, { method: 'POST', body, keepalive: bytesOf(body) <= MAX_BATCH_BYTES + 2, credentials: 'omit' }),
      timeout(),
    ]);
    const isPassing = answer.status === 429 || answer.status === 503;
    return isPassing ? Number(answer.headers.get('retry-after')) || 0 : undefined;
  } catch {
    return 0;
  }
}

const timeout = (): Promise<never> =>
  new Promise((_, reject) => {
    setTimeout(() => reject(new Error('no answer in time')), TIMEOUT_MS);
  });
