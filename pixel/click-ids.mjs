// The names of click ids, from the pipeline's own table.

import { readFileSync } from 'node:fs';

const table = new URL('../truepixel_dagster/events/data/click_ids.json', import.meta.url);

export const clickIds = JSON.parse(readFileSync(table, 'utf8')).click_ids.map(({ name }) => name.toLowerCase());
