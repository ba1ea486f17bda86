// Builds the three pixels into dist/, and the theme's into the theme app extension, and refuses one of 5 KiB or more.

import { copyFileSync, mkdirSync, statSync } from 'node:fs';
import { build } from 'esbuild';
import { clickIds } from './click-ids.mjs';

const MOST_BYTES = 5 * 1024;
// Shopify's help: a custom pixel is JavaScript alone, without HTML; the shop fills in these two.
const settings = 'const TRUEPIXEL = { collector: "https://collector.example", token: "tp_…" };';
const bundles = {
  'app-pixel.js': { entry: 'extensions/truepixel-pixel/src/index.ts' },
  'custom-pixel.js': { entry: 'custom-pixel/src/index.ts', banner: settings },
  'theme-embed.js': { entry: 'theme-embed/src/index.ts' },
};

process.chdir(import.meta.dirname);
for (const [name, { entry, banner }] of Object.entries(bundles)) {
  const outfile = `dist/${name}`;
  await build({
    entryPoints: [entry],
    outfile,
    bundle: true,
    minify: true,
    format: 'iife',
    target: 'es2020',
    charset: 'utf8',
    define: { CLICK_IDS: JSON.stringify(clickIds) },
    banner: banner ? { js: banner } : {},
    logLevel: 'warning',
  });
  const { size } = statSync(outfile);
  console.log(`${outfile}  ${size} bytes`);
  if (size >= MOST_BYTES) throw new Error(`${outfile} has ${size} bytes, and must have less than ${MOST_BYTES}`);
}
mkdirSync('extensions/truepixel-theme/assets', { recursive: true });
copyFileSync('dist/theme-embed.js', 'extensions/truepixel-theme/assets/truepixel.js');
