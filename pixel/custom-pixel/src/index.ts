// The custom pixel, for pasting into the admin. Its globals: https://shopify.dev/docs/api/web-pixels-api

import { type Api, type Settings, start } from '@truepixel/core';

declare const analytics: Api['analytics'];
declare const browser: Api['browser'];
declare const init: Api['init'];
declare const api: Pick<Api, 'customerPrivacy'>;
// The build writes the settings in readable form at the head of the file, where the shop fills them in.
declare const TRUEPIXEL: Settings;

start({ analytics, browser, init, customerPrivacy: api.customerPrivacy }, TRUEPIXEL);
