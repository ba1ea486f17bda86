// The landing page's ad parameters: `utm_*` and the click ids of the pipeline's own table.

// The build inserts the names in lower case (truepixel_dagster/events/data/click_ids.json).
declare const CLICK_IDS: readonly string[];

/** Returns the path with the query parameters that describe an ad; an empty text if there are none. */
export function landingOf(path: string, query: string): string {
  const kept = new URLSearchParams();
  for (const [name, value] of new URLSearchParams(query)) {
    const lower = name.toLowerCase();
    if (value && (lower.startsWith('utm_') || CLICK_IDS.includes(lower))) kept.append(name, value);
  }
  const text = kept.toString();
  return text && `${path}?${text}`;
}
