// Look at the built site in headless Chromium: pages at phone and desktop width, light and dark, and axe-core on each.
//
//   npm install --prefix FOLDER playwright-core axe-core
//   NODE_PATH=FOLDER/node_modules node scripts/site_pages/look.mjs build/site SCREENSHOTS [PAGE ...]
//
// Any folder of pages will do, one with a report.html, too. LOOK=390-dark,1280-light takes these views only. Exit code 1
// for a serious or critical finding, for a page that fetches from elsewhere, or for one that is wider than its window.
import { createRequire } from "node:module";
import { existsSync, readdirSync, readFileSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(join(process.env.NODE_PATH ?? process.cwd(), "x.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const [site, shots, ...asked] = process.argv.slice(2);
const every = ["", "benchmarks", "reference"].filter((folder) => existsSync(join(site, folder))).flatMap((folder) =>
  readdirSync(join(site, folder)).filter((name) => name.endsWith(".html") && name !== "404.html").map((name) => join(folder, name)));
const pages = asked.length ? asked : every;
mkdirSync(shots, { recursive: true });

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
let faults = 0;
for (const [width, height] of [[390, 844], [1280, 900]]) {
  for (const colorScheme of ["light", "dark"]) {
    if (process.env.LOOK && !process.env.LOOK.split(",").includes(`${width}-${colorScheme}`)) continue;
    const context = await browser.newContext({ viewport: { width, height }, colorScheme, reducedMotion: "reduce" });
    context.setDefaultTimeout(300_000);
    const tab = await context.newPage();
    const fetched = [];
    tab.on("request", (request) => { if (/^(https?|wss?):/.test(request.url())) fetched.push(request.url()); });
    for (const page of pages) {
      await tab.goto(pathToFileURL(resolve(site, page)).href);
      await tab.evaluate(axe);
      const found = await tab.evaluate(async () => (await axe.run()).violations.map((v) =>
        ({ id: v.id, impact: v.impact, n: v.nodes.length, first: v.nodes[0].html.slice(0, 160), why: v.nodes[0].failureSummary })));
      const wide = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      const where = `${page} ${width} ${colorScheme}`;
      for (const each of found) {
        const serious = ["serious", "critical"].includes(each.impact);
        faults += serious;
        if (serious) console.log(`${where}: ${each.impact} ${each.id} x${each.n}: ${each.first}\n    ${each.why.replaceAll("\n", " ")}`);
      }
      if (wide > 1) { faults += 1; console.log(`${where}: ${wide} pixels wider than its window`); }
      if (["index.html", "gauge.html", "errors.html", "reference/commands.html", "reference/python.html"].includes(page) || asked.length)
        await tab.screenshot({ path: join(shots, `${page.replaceAll("/", "-").replace(".html", "")}-${width}-${colorScheme}.png`) });
    }
    if (fetched.length) { faults += 1; console.log(`fetched: ${fetched.slice(0, 3)}`); }
    await context.close();
  }
}
await browser.close();
console.log(`${pages.length} pages: ${faults} faults`);
process.exit(faults ? 1 : 0);
