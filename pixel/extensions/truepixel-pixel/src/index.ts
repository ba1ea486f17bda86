// The app pixel: a web pixel extension, whose settings the app's `webPixelCreate` mutation fills in.

import { register } from '@shopify/web-pixels-extension';
import { start } from '@truepixel/core';

register((api) => {
  const { collector, token } = api.settings;
  start(api, { collector, token });
});
