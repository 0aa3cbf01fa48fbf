// Draws a dashboard with the numbers of a Prometheus, in headless Chromium:
//
//     node draw.mjs PROMETHEUS-URL FROM TO SCRAPE-INTERVAL DASHBOARD.json PICTURE.png
//
// Times and the interval are in seconds.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const [prometheus, from, to, scrape, dashboard, picture] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
const library = (name) => join(here, 'node_modules', name);
const icons = library('@grafana/ui/dist/public/img/icons');
const font = (weight) => readFile(library(`@fontsource/inter/files/inter-latin-${weight}-normal.woff2`));

const bundle = await build({
  entryPoints: [join(here, 'page.jsx')],
  outdir: '/',
  bundle: true,
  write: false,
  format: 'esm',
  jsx: 'automatic',
  loader: { '.ttf': 'empty' },
  define: { 'process.env.NODE_ENV': '"production"' },
  logLevel: 'error',
});

const types = { '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.json': 'application/json' };
const files = new Map(bundle.outputFiles.map((file) => [file.path, file.contents]));
files.set('/public/fonts/inter/Inter-Regular.woff2', await font(400));
files.set('/public/fonts/inter/Inter-Medium.woff2', await font(500));
files.set('/dashboard.json', await readFile(dashboard));
const settings = { prometheus, from: Number(from), to: Number(to), scrape: Number(scrape) };
files.set('/settings.json', JSON.stringify(settings));
files.set(
  '/',
  '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><link rel="stylesheet" href="/page.css">' +
    '<body style="margin: 0"><div id="page"></div><script type="module" src="/page.js"></script>'
);

async function content(path) {
  const icon = path.split('/img/icons/')[1];
  return icon === undefined ? files.get(path) : readFile(join(icons, normalize(`/${icon}`))).catch(() => undefined);
}

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, 'http://127.0.0.1');
  const body = await content(pathname);
  response.writeHead(body === undefined ? 404 : 200, { 'Content-Type': types[extname(pathname)] ?? 'text/html' });
  response.end(body);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update',
    '--disable-sync'],
});
try {
  const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
  page.on('pageerror', (error) => console.error(`page: ${error}`));
  page.on('response', (answer) => answer.ok() || console.error(`page: ${answer.status()} ${answer.url()}`));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForFunction(
    () => {
      const count = (selector) => document.querySelectorAll(selector).length;
      const { charts, icons } = window.expected ?? {};
      return count('.u-wrap') >= charts && count('svg') >= icons;
    },
    undefined,
    { timeout: 60_000 }
  );
  for (const title of await page.evaluate(() => window.expected.empty)) {
    console.error(`no data: ${title}`);
    process.exitCode = 1;
  }
  await page.screenshot({ path: picture, fullPage: true });
} finally {
  await browser.close();
  server.close();
}
