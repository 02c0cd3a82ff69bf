// Opens the console in headless Chromium and clicks through it. What it needs of the outside it asks for: a line `ask: …`, which is
// answered with a line.
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [scenario, admin, modules] = process.argv.slice(2);
const { chromium } = await import(pathToFileURL(join(modules, "playwright-core/index.mjs")));
const axe = readFileSync(join(modules, "axe-core/axe.min.js"), "utf8");
const FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync";
const PATIENCE_MS = 60_000;

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function ask(what) {
  console.log(`ask: ${what}`);
  await answers.next();
}

function check(is, what) {
  if (!is) throw new Error(what);
}

const profile = await mkdtemp(join(tmpdir(), "console-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: "/usr/bin/chromium", args: FLAGS.split(" "), viewport: { width: 1280, height: 800 },
});
context.setDefaultTimeout(PATIENCE_MS);
const page = context.pages()[0] ?? (await context.newPage());
// What the browser says of errors. A request that is refused, or that an outage ends, is one that the page shows.
const errors = [];
const foreseen = /Failed to load resource/;
page.on("console", (message) => { if (message.type() === "error" && !foreseen.test(message.text())) errors.push(message.text()); });
page.on("pageerror", (error) => errors.push(error.message));
// Nothing is asked of anybody else.
context.on("request", (request) => { if (!request.url().startsWith(admin)) errors.push(`asked for ${request.url()}`); });

/** Looks at the page in both colours and at two sizes; nothing serious may be found. */
async function accessible(name) {
  for (const [width, colorScheme] of [[1280, "light"], [1280, "dark"], [390, "light"]]) {
    await page.setViewportSize({ width, height: 800 });
    await page.emulateMedia({ colorScheme });
    if (!(await page.evaluate("window.axe"))) await page.evaluate(axe);
    const found = await page.evaluate("axe.run()");
    const serious = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    check(serious.length === 0, `${name}, ${width}, ${colorScheme}: ${JSON.stringify(serious.map(({ id, nodes }) => [id, nodes[0].html, nodes[0].failureSummary]))}`);
    const wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    check(wide <= 0, `${name} is wider than a page of ${width}`);
    if (process.env.TIDEGATE_CONSOLE_IMAGES && colorScheme === "light") {
      await page.screenshot({ path: join(process.env.TIDEGATE_CONSOLE_IMAGES, `console-${name}-${width === 390 ? "phone" : "desktop"}.png`) });
    }
  }
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.emulateMedia({ colorScheme: "light" });
  console.log(`seen: ${name}`);
}

const said = (text) => page.getByText(text).first().waitFor();
const heading = (name) => page.getByRole("heading", { name, level: 1 }).waitFor();
const follow = (name) => page.getByRole("navigation", { name: "Views" }).getByRole("link", { name, exact: true }).click();

async function flow() {
  await page.goto(admin);
  await heading("Flow");
  check(page.url().endsWith("/console"), page.url());
  await ask("load");
  await page.locator("#bottleneck", { hasText: "Nothing holds calls up." }).waitFor();
  await page.locator("#status", { hasText: "live" }).waitFor();
  for (const stage of ["Admission and mailboxes", "Lookup", "Invoke (hosts)", "Checkpoint"]) {
    await page.getByRole("region", { name: `Stage ${stage}` }).waitFor();
  }
  await ask("quiet");
  await ask("close");
  await ask("calls 6");
  await page.locator("#bottleneck", { hasText: /^calls wait for host 127\.0\.0\.1:\d+: 2 of 2 permits, / }).waitFor();
  await page.getByRole("region", { name: "Hosts" }).getByText("2 of 2").waitFor();
  await accessible("flow");
}

async function hot() {
  await follow("Hot actors");
  await heading("Hot actors");
  await page.getByRole("navigation", { name: "Measures" }).getByRole("link", { name: "Queue" }).click();
  check(page.url().endsWith("#/hot?by=queue"), page.url());
  await page.getByText(/^4 turns wait now\./).waitFor();
  const rows = page.getByRole("region", { name: "Hot actors" });
  await rows.getByRole("row", { name: /^shop\/cart-0\d 1 25\.0 % exact$/ }).nth(3).waitFor();
  await page.getByRole("navigation", { name: "Measures" }).getByRole("link", { name: "Calls" }).click();
  await page.getByText(/^\d.* calls ended in the last .*\.$/).waitFor();
  await rows.getByRole("row", { name: /^shop\/cart-\d\d .* % exact$/ }).nth(29).waitFor();
  await accessible("hot");
  for (const [by, said] of [["time", / of turns in the last /], ["bytes", / written and answered in the last /]]) {
    await page.goto(`${admin}/console#/hot?by=${by}`);
    await page.getByText(said).waitFor();
    await rows.getByRole("link", { name: "shop/cart-07" }).waitFor();
  }
  await rows.getByRole("link", { name: "shop/cart-07" }).click();
  await page.getByRole("heading", { name: "shop/cart-07", level: 1 }).waitFor();
  await follow("Flow");
}

async function waiting() {
  await page.getByRole("link", { name: "a permit of their host" }).click();
  await heading("Why is it waiting");
  check(page.url().endsWith("#/waiting?reason=host_permit"), page.url());
  await page.getByRole("cell", { name: "a permit of their host" }).nth(3).waitFor();
  await accessible("waiting");
  // Each actor is called again: where one call runs, the next waits for it, which is named.
  await ask("calls 6");
  await page.getByLabel("Waits for").selectOption("actor_turn");
  await page.getByRole("cell", { name: /^turn \d+ of its actor \(wait, for / }).first().waitFor();
  await page.reload();
  await page.getByRole("cell", { name: /^turn \d+ of its actor/ }).first().waitFor();
  await page.getByRole("region", { name: "Actors that wait" }).getByRole("link").first().click();
  await page.getByRole("heading", { name: /^shop\/cart-0/, level: 1 }).waitFor();
}

async function warnings() {
  const actor = page.url();
  await follow("Warnings");
  await heading("Warnings");
  // The turn that the others wait for.
  const stuck = page.getByRole("region", { name: "Warnings" }).getByRole("row", { name: /^stuck turn shop\/cart-/ }).first();
  await stuck.getByText(/ has run for \d+\.\d s; /).waitFor();
  await accessible("warnings");
  await stuck.getByRole("link", { name: "turns-stuck" }).click();
  await heading("TidegateTurnsStuck");
  await accessible("runbook");
  await page.goto(`${admin}/console#/runbook/nothing`);
  await said("no such page");
  await page.goto(actor);
}

async function actors() {
  // The actor whose call runs: the call is cancelled, after a question.
  await page.getByRole("button", { name: "Cancel what runs" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Leave it" }).click();
  await page.getByRole("button", { name: "Cancel what runs" }).click();
  // A page that is left may send nothing any more.
  const cancelled = page.waitForResponse((response) => response.request().method() === "POST");
  await page.getByRole("dialog").getByRole("button", { name: "Cancel what runs" }).click();
  check((await cancelled).ok(), "the call is cancelled");
  // The cancelled call ends a moment later.
  const ended = page.getByText("conflict", { exact: true });
  while (!(await ended.count())) {
    await page.reload();
    await said("last error");
    await page.waitForTimeout(200);
  }
  await ask("open");
  await ask("quiet");

  await page.goto(`${admin}/console#/actors/shop/counter`);
  for (let count = 1; count <= 3; count += 1) {
    await page.getByLabel("Action").fill("add");
    await page.getByRole("button", { name: "Invoke" }).click();
    await page.locator('pre[aria-label="Answer"]', { hasText: `"count": ${count}` }).waitFor();
  }
  await page.locator('pre[aria-label="State"]', { hasText: '"count": 3' }).waitFor();
  const difference = page.locator('pre[aria-label="Difference"]');
  await difference.getByText('- "count": 2'.replace(" ", "   ")).waitFor();
  await page.getByRole("radio", { name: "Revision 1 as before" }).check();
  await difference.getByText(/"count": 1/).waitFor();
  await accessible("actor");
  await page.getByRole("button", { name: "Restore 1", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Restore revision 1" }).click();
  await page.locator('pre[aria-label="State"]', { hasText: '"count": 1' }).waitFor();
  await page.getByRole("button", { name: "Pause" }).click();
  await said(/^since .* by /);
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByText(/^since .* by /).waitFor({ state: "detached" });
  await page.getByLabel("Action").fill("fail");
  await page.getByRole("button", { name: "Invoke" }).click();
  await said("action_failed");
  await page.getByRole("button", { name: "Take out of memory" }).click();
  await page.getByText("stored").waitFor();

  // All that a filter matches: counted, asked, done.
  await follow("Actors");
  await heading("Actors");
  await page.getByLabel("Definition").fill("cart");
  await page.getByLabel("State").selectOption("live");
  await page.getByRole("button", { name: "List" }).click();
  await said("30 actors");
  await page.getByRole("button", { name: "Pause…" }).click();
  await page.getByRole("dialog").getByText("30 actors match.").waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Pause: 30" }).click();
  await page.getByRole("dialog").getByText("30 of 30 actors were paused.").waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
  await page.getByRole("region", { name: "Actors" }).getByText("paused").nth(29).waitFor();
  await accessible("actors");
  await page.getByRole("button", { name: "Resume…" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Resume: 30" }).click();
  await page.getByRole("dialog").getByText("30 of 30 actors were resumed.").waitFor();
  // By keyboard alone: Escape closes, and the tab key reaches the links of the list.
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  // The list is asked for again, which takes the focus from it.
  await page.getByRole("region", { name: "Actors" }).getByText("paused").first().waitFor({ state: "detached" });
  await page.getByRole("link", { name: "shop/cart-07" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "shop/cart-07", level: 1 }).waitFor();
  await page.goBack();
  await said("30 actors");
}

/** What the form sends, and what is stored, is shown as it is written: no number is rounded. */
async function numbers() {
  await page.goto(`${admin}/console#/actors/shop/cart-29`);
  // A double is the same for both.
  for (const id of ["9007199254740992", "9007199254740993"]) {
    await page.getByLabel("Action").fill("add");
    await page.getByLabel("Payload, as JSON").fill(`{"answer": {"state": {"id": ${id}, "v": 1.0}, "payload": ${id}}}`);
    await page.getByRole("button", { name: "Invoke" }).click();
    // The host answers with what it got.
    await page.locator('pre[aria-label="Answer"]', { hasText: `"payload": ${id}` }).waitFor();
    await page.locator('pre[aria-label="State"]', { hasText: new RegExp(`"id": ${id},\\s+"v": 1\\.0`) }).waitFor();
  }
  const difference = page.locator('pre[aria-label="Difference"]');
  await difference.getByText('-   "id": 9007199254740992').waitFor();
  await difference.getByText('+   "id": 9007199254740993').waitFor();
  await page.getByRole("cell", { name: '{"id":9007199254740993,"v":1.0}' }).waitFor();
  await page.getByLabel("Payload, as JSON").fill('{"id": }');
  await page.getByRole("button", { name: "Invoke" }).click();
  await page.getByRole("status").getByText(/JSON/).waitFor();
}

/** The page of an actor does not ask for all of its history. */
async function history() {
  await ask("large cart-28 40");
  let answers = [];
  const note = (response) => { if (response.url().includes("/api/")) answers.push(response); };
  /** At most so many requests were made, with so many bytes of answers. */
  const bounded = async (requests, most) => {
    const bytes = (await Promise.all(answers.map((response) => response.body()))).reduce((sum, body) => sum + body.length, 0);
    check(answers.length <= requests && bytes <= most, `${bytes} bytes in ${answers.map((response) => response.url())}`);
    answers = [];
  };
  page.on("response", note);
  await page.goto(`${admin}/console#/actors/shop/cart-28`);
  await page.locator('pre[aria-label="State"]', { hasText: '"number": 39' }).waitFor();
  const rows = page.getByRole("region", { name: "Revisions" }).getByRole("row");
  await rows.nth(9).waitFor();
  await page.locator('pre[aria-label="Difference"]', { hasText: '-   "number": 38' }).waitFor();
  // 40 states of 400,000 characters each in base64 are 16 MB.
  await bounded(8, 8e6);
  const first = await rows.count();
  await page.getByLabel("Action").fill("add");
  await page.getByRole("button", { name: "Invoke" }).click();
  await rows.nth(first).waitFor();
  await page.locator('pre[aria-label="State"]', { hasText: '"count": 1' }).waitFor();
  await bounded(6, 1e6);
  await page.getByRole("radio", { name: /^Revision \d+ as before$/ }).nth(2).check();
  await page.locator('pre[aria-label="Difference"]', { hasText: '-   "number": 38' }).waitFor();
  await page.getByRole("button", { name: "More" }).click();
  await rows.nth(first + 5).waitFor();
  await bounded(4, 8e6);
  // What was chosen stays so.
  await page.locator('pre[aria-label="Difference"]', { hasText: '-   "number": 38' }).waitFor();
  page.off("response", note);
}

async function schedules() {
  await ask("schedule");
  await follow("Schedules");
  await heading("Schedules");
  await page.getByRole("cell", { name: "30 2 * * * Europe/Berlin" }).waitFor();
  await page.getByRole("button", { name: "Run now nightly" }).click();
  await page.getByText(/answered at/).waitFor();
  await page.getByRole("button", { name: "Pause nightly" }).click();
  await page.getByRole("region", { name: "Schedules" }).getByText("paused").waitFor();
  await accessible("schedules");
  await page.getByRole("button", { name: "Resume nightly" }).click();
  await page.getByRole("region", { name: "Schedules" }).getByText("active").waitFor();
}

async function effects() {
  await page.goto(`${admin}/console#/actors/shop/counter`);
  await page.getByLabel("Action").fill("add");
  await page.getByLabel("Payload, as JSON").fill(JSON.stringify({ answer: { state: { count: 9 }, effects: [{ actor: "nobody", action: "nothing" }] } }));
  await page.getByRole("button", { name: "Invoke" }).click();
  await page.locator('pre[aria-label="State"]', { hasText: '"count": 9' }).waitFor();
  await page.goto(`${admin}/console#/effects?state=dead`);
  await heading("Effects and dead letters");
  const why = page.getByRole("cell", { name: /nobody not found/ });
  while (!(await why.count())) await page.getByRole("button", { name: "List" }).click().then(() => page.waitForTimeout(200));
  await accessible("effects");
  const first = await page.getByRole("region", { name: "Effects" }).getByRole("cell").first().innerText();
  await page.getByRole("button", { name: /^Deliver again shop/ }).click();
  // It is delivered under a number of its own, and dies again.
  const again = page.getByRole("region", { name: "Effects" }).getByRole("row").nth(1);
  while ((await again.innerText()).includes(first) || !(await why.count())) await page.getByRole("button", { name: "List" }).click().then(() => page.waitForTimeout(200));
  await page.getByRole("button", { name: "Drop…" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Drop: 1" }).click();
  await page.getByRole("dialog").getByText("1 of 1 dead letters are dropped.").waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
  await said("Everything is delivered.");
}

async function calls() {
  await follow("Slow calls");
  await heading("Slow calls");
  await page.getByLabel("Actor").fill("counter");
  await page.getByLabel("Outcome").selectOption("failed");
  await page.getByRole("button", { name: "List" }).click();
  await page.getByRole("cell", { name: "action_failed" }).first().waitFor();
  await accessible("calls");
  await page.getByRole("link", { name: "shop/counter fail" }).first().click();
  await heading("One call");
  await said("action_failed (host): the action failed: its host answered HTTP 422");
  await page.getByRole("region", { name: /^Call [0-9a-f]{32}$/ }).getByText(/^queued .*, served /).nth(1).waitFor();
  await page.getByRole("listitem").filter({ hasText: "invoke failed" }).waitFor();
  await accessible("call");
  // The address is that of the call.
  await page.reload();
  await said(/its host answered HTTP 422/);
  await page.goto(`${admin}/console#/calls/${"0".repeat(31)}1`);
  await said("This call is not kept any more.");
}

async function channels() {
  await follow("Channels");
  await heading("Channels");
  await ask("publish 3");
  await page.getByRole("cell", { name: "has all" }).waitFor();
  await accessible("channels");
  await page.getByRole("link", { name: "shop/orders" }).click();
  await heading("shop/orders");
  await page.getByRole("link", { name: "reader" }).waitFor();
  await page.getByRole("row", { name: "reader 3 has all" }).waitFor();
  // It stays behind while it is paused, and goes on after that.
  await ask("pause reader");
  await ask("publish 2");
  await page.getByRole("row", { name: "reader 3 2 behind" }).waitFor();
  await accessible("channel");
  await ask("resume reader");
  await page.getByRole("row", { name: "reader 5 has all" }).waitFor();
}

async function outage() {
  await follow("Flow");
  await ask("away");
  await ask("calls 3");
  await page.locator("#bottleneck", { hasText: "which has accepted no connection for" }).waitFor();
  await page.getByRole("region", { name: "Hosts" }).getByText(/away|breaker open/).first().waitFor();
  await accessible("outage");
}

/** The longest frame of each view while 10,000 actors are there and 50 calls a second change them. */
async function frames() {
  await ask("many 10000");
  await ask("pace 50");
  for (const [view, title] of [["flow", "Flow"], ["hot", "Hot actors"], ["warnings", "Warnings"], ["waiting", "Why is it waiting"], ["calls", "Slow calls"], ["actors", "Actors"]]) {
    await page.goto(`${admin}/console#/${view}`);
    await heading(title);
    if (await page.getByRole("button", { name: "List" }).count()) await page.getByRole("button", { name: "List" }).click();
    if (view === "actors") await page.getByText(/10,?000 actors|more/).first().waitFor();
    const { frames, longest } = await page.evaluate((lasts) => new Promise((done) => {
      const ends = performance.now() + lasts;
      let [frames, longest, last] = [0, 0, performance.now()];
      const next = (now) => {
        longest = Math.max(longest, now - last);
        [frames, last] = [frames + 1, now];
        if (now < ends) requestAnimationFrame(next);
        else done({ frames, longest });
      };
      requestAnimationFrame(next);
    }), 5000);
    check(frames > 1, `${title} draws nothing`);
    console.log(`${title}: longest of ${frames} frames: ${longest.toFixed(1)} ms`);
  }
  await ask("paced 100");
}

async function recording() {
  // The outage has to be in a look; there is one each five seconds.
  let made;
  const isAway = ({ flow }) => flow.bottleneck?.sentence.includes("has accepted no connection");
  do {
    await page.waitForTimeout(500);
    made = await (await page.request.get(`${admin}/admin/record`)).json();
  } while (!made.looks.some(isAway));
  const outage = made.looks.findIndex(isAway);
  check(outage > 0, "there are looks before the outage");
  const bytes = (text) => ({ name: "recording.json", mimeType: "application/json", buffer: Buffer.from(text) });
  await page.goto(`${admin}/console#record`);
  await heading("Recording");
  const asked = [];
  await context.route("**/*", (route) => { asked.push(route.request().url()); return route.abort(); });
  const input = page.getByLabel("Open a recording");
  await input.setInputFiles(bytes("{}"));
  await page.getByRole("alert").getByText("This file is no recording of Tidegate.").waitFor();
  await input.setInputFiles(bytes(JSON.stringify({ ...made, format_version: 99 })));
  await page.getByRole("alert").getByText("This recording has format 99").waitFor();
  // Of another proxy.
  await input.setInputFiles(bytes(JSON.stringify({ ...made, address: "http://elsewhere:9001" })));
  await page.locator("#recording", { hasText: "Recording of http://elsewhere:9001, 20" }).waitFor();
  await page.getByLabel("Settings").getByText("TIDEGATE_HOST_CONNECTIONS = 2").waitFor();
  await accessible("recording");
  await follow("Flow");
  await page.locator("#status", { hasText: "recording" }).waitFor();
  const sentence = (text) => page.locator("#bottleneck").getByText(text, { exact: true }).waitFor();
  await sentence(made.looks.at(-1).flow.bottleneck.sentence);
  // By keyboard, to the outage and to before it.
  const slider = page.getByRole("slider", { name: "Time of the recording" });
  await slider.focus();
  for (let at = made.looks.length - 1; at > outage; at -= 1) await page.keyboard.press("ArrowLeft");
  await sentence(made.looks[outage].flow.bottleneck.sentence);
  await page.locator("#recording", { hasText: made.looks[outage].flow.at }).waitFor();
  await accessible("recording-flow");
  await page.keyboard.press("Home");
  await sentence(made.looks[0].flow.bottleneck?.sentence ?? (made.looks[0].flow.calls.per_second > 0 ? "Nothing holds calls up." : "Nothing holds calls up, and nobody calls."));
  await page.keyboard.press("End");
  await follow("Hot actors");
  await page.getByRole("region", { name: "Hot actors" }).getByRole("link", { name: /^shop\/cart-/ }).first().waitFor();
  await follow("Warnings");
  await page.getByRole("region", { name: "Warnings" }).waitFor();
  await follow("Why is it waiting");
  await page.getByRole("cell", { name: "their host, which accepts no connections" }).first().waitFor();
  await slider.focus();
  await page.keyboard.press("Home");
  await said(`${made.looks[0].waiting.all} actors`);
  await follow("Slow calls");
  await page.getByRole("link", { name: "shop/counter fail" }).first().click();
  await said("action_failed (host): (not recorded)");
  await follow("Actors");
  await page.getByRole("link", { name: "shop/counter" }).waitFor();
  await follow("Schedules");
  await page.getByRole("button", { name: "Pause nightly" }).click();
  await page.getByRole("dialog").getByText("This is a recording: nothing can be changed.").waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
  await follow("Effects");
  await said("Everything is delivered.");
  await follow("Channels");
  await page.getByRole("link", { name: "shop/orders" }).waitFor();
  // The proxy had more actors than are recorded, and was not looked at yet.
  const two = { actors: made.sections["/api/v1/actors"].actors.slice(0, 2), next: "more" };
  await follow("Recording");
  await input.setInputFiles(bytes(JSON.stringify({ ...made, looks: [], sections: { ...made.sections, "/api/v1/actors": two } })));
  await page.locator("#recording", { hasText: made.recorded_at }).waitFor();
  for (const view of ["Flow", "Why is it waiting"]) {
    await follow(view);
    await said(/^This recording has no look at its proxy: /);
  }
  await follow("Actors");
  await said("2 of the 2 recorded actors; the proxy had more");
  for (const others of ["actors?host=nowhere", "actors/shop/nobody"]) {
    await page.goto(`${admin}/console#/${others}`);
    await said("Not among the 2 recorded actors; the proxy had more.");
  }
  check(asked.length === 0, `a recording asked for ${asked}`);
  await context.unroute("**/*");
  await page.getByRole("button", { name: "Close the recording" }).click();
  await page.locator("#status", { hasText: "live" }).waitFor();
}

async function token() {
  await page.goto(`${admin}/console#/actors`);
  await page.getByRole("dialog").getByLabel("TIDEGATE_ADMIN_TOKEN").fill("wrong");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").getByText("is not the one").waitFor();
  await page.getByLabel("TIDEGATE_ADMIN_TOKEN").fill("a-long-secret");
  await page.keyboard.press("Enter");
  await said("33 actors");
  await page.reload();
  await said("33 actors");
  await follow("Flow");
  await page.locator("#status", { hasText: "live" }).waitFor();
  await accessible("token");
  // A file that is not there, and the policy of what is.
  const missing = await page.request.get(`${admin}/console/nothing.js`);
  check(missing.status() === 404, `${missing.status()}`);
  const policy = (await page.request.get(`${admin}/console`)).headers()["content-security-policy"];
  check(policy.includes("default-src 'none'") && !policy.includes("unsafe"), policy);
}

try {
  const parts = { views: [flow, hot, waiting, warnings, actors, numbers, history, calls, schedules, effects, channels, outage, recording], frames: [frames], token: [token] }[scenario];
  for (const part of parts) await part();
  check(errors.length === 0, `the browser says: ${errors.join("\n")}`);
} catch (error) {
  console.log(`${scenario} at ${page.url()}: ${error.message}\n${await page.locator("body").innerText().catch(() => "")}`);
  console.log(errors.join("\n"));
  process.exitCode = 1;
} finally {
  await context.close();
  await rm(profile, { recursive: true, force: true });
  process.stdin.destroy();
}
