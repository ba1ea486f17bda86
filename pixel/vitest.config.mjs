import { defineConfig } from 'vitest/config';
import { clickIds } from './click-ids.mjs';

export default defineConfig({
  define: { CLICK_IDS: JSON.stringify(clickIds) },
  test: { include: ['*/test/*.test.ts'] },
});
