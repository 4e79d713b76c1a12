"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;

  // Every text goes through here, as text: nothing that a test says becomes markup.
  function el(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "class") made.className = value;
      else if (typeof value === "function") made.addEventListener(name, value);
      else made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }
  const svg = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const color = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  function time(seconds) {
    if (seconds < 0.00005) return "0 ms";
    if (seconds < 0.00995) return (seconds * 1000).toFixed(1) + " ms";
    if (seconds < 0.9995) return Math.round(seconds * 1000) + " ms";
    if (seconds < 60) return seconds.toFixed(1) + " s";
    const minutes = Math.floor(Math.round(seconds) / 60);
    return minutes + " min " + String(Math.round(seconds) % 60).padStart(2, "0") + " s";
  }
  const redraws = [];
  const redraw = () => redraws.forEach((draw) => draw());

  // ---------------------------------------------------------------- colours
  const themes = ["auto", "light", "dark"];
  const system = matchMedia("(prefers-color-scheme: dark)");
  let theme = "auto";
  try { theme = localStorage.getItem("snapfarm-theme") || "auto"; } catch { /* a file may have none */ }
  if (!themes.includes(theme)) theme = "auto";
  function applyTheme() {
    root.dataset.theme = theme === "auto" ? (system.matches ? "dark" : "light") : theme;
    $("theme").textContent = "Colours: " + theme;
    redraw();
  }
  $("theme").addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    try { localStorage.setItem("snapfarm-theme", theme); } catch { /* see above */ }
    applyTheme();
  });
  system.addEventListener("change", applyTheme);

  const items = data.items;
  const count = items.nodeid.length;
  const states = data.states;
  const worker = (index) => data.workers[items.worker[index]].worker;
  const stateOf = (index) => states[items.state[index]];

  // ---------------------------------------------------------------- tests
  const ROW = 34;
  const wanted = new Set();
  let order = [];
  let current = -1;
  const byName = new Map();
  for (let i = count - 1; i >= 0; i--) byName.set(items.nodeid[i], i);
  const haystack = items.nodeid.map((nodeid, i) => (nodeid + "\n" + worker(i)).toLowerCase());

  const sorts = {
    worst: (a, b) => items.state[a] - items.state[b] || items.anomalies[b] - items.anomalies[a] || a - b,
    slow: (a, b) => items.seconds[b] - items.seconds[a],
    name: (a, b) => (items.nodeid[a] < items.nodeid[b] ? -1 : items.nodeid[a] > items.nodeid[b] ? 1 : a - b),
    begin: (a, b) => items.began[a] - items.began[b],
  };
  function filter() {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    order = [];
    for (let i = 0; i < count; i++) {
      if (wanted.size && !wanted.has(stateOf(i))) continue;
      if (words.every((word) => haystack[i].includes(word))) order.push(i);
    }
    order.sort(sorts[$("sort").value]);
    $("shown").textContent = order.length === count
      ? count + (count === 1 ? " test" : " tests")
      : order.length + " of " + count + " tests";
    $("spacer").style.height = order.length * ROW + "px";
    $("list").style.maxHeight = Math.max(4, order.length) * ROW + 2 + "px";
    $("list").scrollTop = 0;
    rows();
  }
  // What differs between neighbours comes first, so that it is seen where the room ends.
  function named(nodeid) {
    const at = nodeid.indexOf("::");
    if (at < 0) return [nodeid];
    return [nodeid.slice(at + 2), el("span", { class: "quiet" }, "  " + nodeid.slice(0, at))];
  }
  function rows() {
    const list = $("list");
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 5);
    const last = Math.min(order.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 5);
    const made = [];
    for (let place = first; place < last; place++) {
      const i = order[place];
      const name = stateOf(i);
      made.push(el("div", {
        class: "row", role: "option", id: "row-" + i, style: "top:" + place * ROW + "px",
        "aria-selected": String(i === current), "aria-posinset": place + 1, "aria-setsize": order.length,
        title: items.nodeid[i], click: () => select(i, true),
      },
        el("span", { class: "state s-" + name }, name),
        el("span", { class: "name mono" }, ...named(items.nodeid[i])),
        el("span", { class: "time" }, time(items.seconds[i]))));
    }
    $("spacer").replaceChildren(...made);
    if (current >= 0 && $("row-" + current)) list.setAttribute("aria-activedescendant", "row-" + current);
    else list.removeAttribute("aria-activedescendant");
  }
  function reveal(i) {
    const list = $("list");
    const place = order.indexOf(i);
    if (place < 0) return;
    if (place * ROW < list.scrollTop) list.scrollTop = place * ROW;
    else if ((place + 1) * ROW > list.scrollTop + list.clientHeight) {
      list.scrollTop = (place + 1) * ROW - list.clientHeight;
    }
  }
  function select(i, link) {
    current = i;
    reveal(i);
    rows();
    $("detail").replaceChildren(...detail(i));
    $("detail").scrollTop = 0;
    if (link) history.replaceState(null, "", "#test=" + encodeURIComponent(items.nodeid[i]));
  }
  function followLink(scroll) {
    const found = /^#test=(.*)$/.exec(location.hash);
    if (!found) return false;
    let name = found[1];
    try { name = decodeURIComponent(name); } catch { /* taken as it is */ }
    const i = byName.get(name);
    if (i === undefined) return false;
    if (!order.includes(i)) { $("search").value = ""; wanted.clear(); chips(); filter(); }
    select(i, false);
    if (scroll) $("tests").scrollIntoView();
    return true;
  }
  function chips() {
    const totals = states.map(() => 0);
    for (const state of items.state) totals[state]++;
    $("chips").replaceChildren(...states.map((name, number) => [name, totals[number]])
      .filter(([, total]) => total)
      .map(([name, total]) => el("button", {
        type: "button", "aria-pressed": String(wanted.has(name)), "data-state": name,
        click: (event) => {
          if (!wanted.delete(name)) wanted.add(name);
          event.currentTarget.setAttribute("aria-pressed", String(wanted.has(name)));
          filter();
        },
      }, el("span", { class: "s-" + name }, name), el("b", {}, String(total)))));
  }
  function onKey(event) {
    const place = order.indexOf(current);
    const page = Math.floor($("list").clientHeight / ROW) - 1;
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -count, End: count };
    if (!(event.key in moves) || !order.length) return;
    event.preventDefault();
    const next = place < 0 ? 0 : Math.min(order.length - 1, Math.max(0, place + moves[event.key]));
    select(order[next], true);
  }

  // ---------------------------------------------------------------- one test
  function command(text) {
    const button = el("button", {
      type: "button", click: async () => {
        try { await navigator.clipboard.writeText(text); }
        catch {
          const area = el("textarea", {}, text);
          document.body.append(area); area.select(); document.execCommand("copy"); area.remove();
        }
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      },
    }, "Copy");
    return el("div", { class: "command" }, el("pre", { tabindex: 0 }, text), button);
  }
  function cell(value) {
    if (value === null) return el("span", { class: "null" }, "NULL");
    return typeof value === "string" ? value : String(value);
  }
  function tableOf(table) {
    const body = el("tbody", {});
    for (const { before, after } of table.rows) {
      const kind = before === null ? "added" : after === null ? "removed" : "changed";
      const mark = { added: "+", removed: "−", changed: "~" }[kind];
      const row = el("tr", { class: kind }, el("th", { scope: "row", "aria-label": kind }, mark));
      table.columns.forEach((column, at) => {
        const changed = kind === "changed" && before[at] !== after[at];
        const key = table.key.includes(column) ? " key" : "";
        row.append(el("td", { class: (changed ? "changed" : "") + key },
          ...(changed ? [el("del", {}, cell(before[at])), " → ", el("ins", {}, cell(after[at]))]
            : [cell((after || before)[at])])));
      });
      body.append(row);
    }
    const said = ["added", "removed", "changed"].filter((what) => table[what])
      .map((what) => table[what] + " " + what).join(", ");
    const left = table.added + table.removed + table.changed - table.rows.length;
    return [
      el("h4", {}, table.table + ": " + (table.error || said)),
      table.rows.length ? el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Rows of " + table.table },
        el("table", { class: "rows" },
          el("thead", {}, el("tr", {}, el("td", {}),
            ...table.columns.map((column) => el("th", { scope: "col" }, column)))), body)) : null,
      left > 0 ? el("p", { class: "quiet small" }, "… and " + left + " more rows") : null,
    ];
  }
  function evidence(kept) {
    const parts = [];
    const diff = kept.diff;
    if (diff && (diff.tables.length || diff.schema.length)) {
      parts.push(el("h4", {}, "Database " + kept.database + ", against its baseline"));
      diff.tables.forEach((table) => parts.push(...tableOf(table)));
      diff.schema.forEach((each) => parts.push(
        el("h4", {}, each.kind + " " + each.name),
        el("pre", { tabindex: 0 }, [each.before && "− " + each.before, each.after && "+ " + each.after].filter(Boolean).join("\n"))));
      if (diff.incomplete) parts.push(el("p", { class: "quiet small" }, diff.incomplete));
    }
    if (kept.file) parts.push(el("p", { class: "small" }, "As it was: ", el("code", {}, kept.file)));
    if (kept.note) parts.push(el("p", { class: "quiet small" }, "Database " + kept.database + ": " + kept.note));
    kept.statements.forEach((each) => parts.push(el("details", {},
      el("summary", { class: "small" }, "Last statements of a connection " + each.connection + (each.in_transaction ? ", in a transaction" : "")),
      el("pre", { tabindex: 0 }, each.statements.join("\n")))));
    return parts;
  }
  function attempt(each, number, total) {
    const parts = [];
    if (total > 1) {
      parts.push(el("h4", {}, "Attempt " + (number + 1) + ": ", el("span", { class: "s-" + (each.outcome === "error" ? "failed" : each.outcome) }, each.outcome),
        el("span", { class: "quiet" }, " on " + each.worker + ", " + time(each.seconds))));
    }
    each.failures.forEach((failure) => {
      const place = failure.path ? failure.path + (failure.line ? ":" + failure.line : "") : "";
      const what = failure.phase === "crash" ? ["its worker's process ended"] : [el("span", { class: "error" }, failure.kind || "failed"), " in " + failure.phase];
      parts.push(el("p", { class: "small" }, ...what, place ? " at " : "", place ? el("code", {}, place) : null),
      el("pre", { tabindex: 0 }, failure.text || failure.message));
    });
    each.evidence.forEach((kept) => parts.push(...evidence(kept)));
    each.output.forEach((output) => parts.push(el("details", {},
      el("summary", { class: "small" }, output.title), el("pre", { tabindex: 0 }, output.text))));
    return parts;
  }
  function testLink(name) {
    return byName.has(name) ? el("a", { class: "mono", href: "#test=" + encodeURIComponent(name) }, name) : el("span", { class: "mono" }, name);
  }
  const LETTERS = { p: "passed", f: "failed", c: "crashed", k: "flaky", s: "skipped", "-": "not there" };
  function bySaid(letters) {
    const counts = {};
    for (const letter of letters) counts[letter] = (counts[letter] || 0) + 1;
    return Object.entries(counts).map(([letter, count]) => count + " " + LETTERS[letter]).join(", ");
  }
  const when = (run) => new Date(run.started * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  const percent = (share) => (share * 100).toFixed(share && share < 0.0995 ? 1 : 0);
  function rate(known) {
    return known.failures + " of " + known.attempts + " attempts failed (95 %: " + percent(known.low) + " to " + percent(known.high) + " %)";
  }
  // A square for each run; their sum is said to those who do not see them.
  function strip(letters) {
    const made = el("div", { class: "strip", role: "img", "aria-label": "In " + letters.length + " runs: " + bySaid(letters) });
    [...letters].forEach((letter, run) => made.append(el("i", { class: "l-" + (letter === "-" ? "none" : letter), title: LETTERS[letter] + ", " + when(data.runs[run]) })));
    return made;
  }
  function sparkline(values) {
    const known = values.map((value, place) => [value, place]).filter(([value]) => value !== null);
    if (known.length < 2) return null;
    const most = Math.max(...known.map(([value]) => value)) || 1;
    const wide = 240, high = 36, step = wide / Math.max(1, values.length - 1);
    const chart = svg("svg", { viewBox: "-2 -2 " + (wide + 4) + " " + (high + 4), class: "spark", preserveAspectRatio: "none", role: "img",
      "aria-label": "Its time in " + known.length + " runs: " + time(known[0][0]) + " at first, " + time(known[known.length - 1][0]) + " now, " + time(most) + " at most" });
    const line = svg("polyline", { points: known.map(([value, place]) => (place * step).toFixed(1) + "," + (high - value / most * high).toFixed(1)).join(" "), "vector-effect": "non-scaling-stroke" });
    chart.append(line);
    return chart;
  }
  function past(i) {
    const letters = data.history[i], known = data.past[i];
    if (data.runs.length < 2) return [];
    if (!letters) return data.only_troubled ? [el("p", { class: "quiet small" }, "It has not failed in any of the last " + data.runs.length + " runs.")] : [];
    const parts = [el("h4", {}, "Its last " + letters.length + " runs, the newest on the right"), strip(letters)];
    if (known) {
      parts.push(el("p", { class: "small quiet" }, rate(known)));
      if (known.tables.length) parts.push(el("p", { class: "small quiet" }, "Writes to ", el("span", { class: "mono" }, known.tables.join(", "))));
      const line = sparkline(known.seconds);
      const spent = known.seconds.filter((value) => value !== null);
      if (line) parts.push(line, el("p", { class: "small quiet" }, "Its time: " + time(spent[0]) + " at first, " + time(spent[spent.length - 1]) + " now, " + time(Math.max(...spent)) + " at most"));
    }
    return parts;
  }
  function detail(i) {
    const name = stateOf(i);
    const more = data.details[i] || { attempts: [], anomalies: [], replay: "", note: "" };
    const parts = [
      el("h3", {}, items.nodeid[i]),
      el("p", { class: "small" }, el("span", { class: "state s-" + name }, name),
        el("span", { class: "quiet" }, " " + worker(i) + " · began at " + time(items.began[i]) + " · " + time(items.seconds[i]) +
          ": set-up " + time(items.setup[i]) + ", test " + time(items.call[i]) +
          ", tear-down " + time(Math.max(0, items.teardown[i] - items.reset[i])) + ", reset " + time(items.reset[i]))),
    ];
    if (more.note) parts.push(el("p", {}, more.note));
    more.anomalies.forEach((shown) => {
      const each = shown.anomaly;
      parts.push(el("h4", {}, el("span", { class: each.severity }, each.kind), each.count > 1 ? " (" + each.count + " times)" : ""),
        el("p", { class: "small" }, each.message), el("p", { class: "small quiet" }, "What to do: " + shown.remedy));
      if (each.polluter) parts.push(el("p", { class: "small" }, "Left by ", testLink(each.polluter)));
      if (each.sql) parts.push(el("pre", { tabindex: 0 }, each.sql));
      if (each.evidence.length) parts.push(el("pre", { tabindex: 0 }, each.evidence.join("\n")));
      if (each.stack.length) parts.push(el("details", {}, el("summary", { class: "small" }, "Where"), el("pre", { tabindex: 0 }, each.stack.join("\n"))));
    });
    more.attempts.forEach((each, number) => parts.push(...attempt(each, number, more.attempts.length)));
    if (more.verdict) {
      const word = more.verdict.role === "brittle" ? "Needs " : "Broken by ";
      parts.splice(more.note ? 3 : 2, 0, el("div", { class: "verdict" },
        el("p", {}, el("strong", {}, "Why: "), more.why),
        ...more.verdict.culprits.map((group) => el("p", { class: "small" }, word, ...group.flatMap((name, place) => [place ? " with " : "", testLink(name)]))),
        ...more.verdict.evidence.map((line) => el("p", { class: "small quiet" }, line)),
        el("p", { class: "small" }, "What to do: " + more.verdict.advice)));
    }
    if (more.replay) {
      parts.push(el("h4", {}, more.alone ? "Run it again, after the same tests" : "Run it again"), command(more.replay));
      if (more.alone) parts.push(el("h4", {}, "Run it alone"), command(more.alone));
    }
    else if (name !== "passed" && name !== "skipped") parts.push(el("p", { class: "quiet small" }, "The JSON report has more of it: this page has details of the first failures."));
    parts.push(...past(i));
    return parts.flat().filter(Boolean);
  }

  // ---------------------------------------------------------------- drawing
  function surface(canvas, height) {
    const ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth;
    canvas.style.height = height + "px";
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    return { pen, width, height };
  }
  function timeline() {
    const canvas = $("lanes"), LANE = 28, LEFT = 64, TOP = 26;
    const end = Math.max(data.seconds, 0.001);
    let from = 0, to = end, box = null;
    const byWorker = data.workers.map(() => []);
    for (let i = 0; i < count; i++) byWorker[items.worker[i]].push(i);
    byWorker.forEach((list) => list.sort((a, b) => items.began[a] - items.began[b]));
    const lanes = data.workers.map((lane, index) => ({ lane, list: byWorker[index] }))
      .filter(({ lane, list }) => lane.spans.length || list.length);
    if (!lanes.length) return;
    $("timeline").hidden = false;
    const kinds = [["start", "start"], ["broadcast", "broadcast"], ["restore", "restore"], ["collection", "collection"], ["bar-passed", "passed"],
      ["bar-flaky", "flaky"], ["bar-failed", "failed"], ["bar-crashed", "crashed"], ["skipped", "skipped"], ["reset", "reset"], ["idle", "idle"], ["end", "end"]];
    function legend() {
      $("legend").replaceChildren(...kinds.map(([variable, name]) => {
        const mark = el("i", { class: name === "idle" ? "thin" : "" }); mark.style.background = "var(--" + variable + ")";
        return el("span", {}, mark, name);
      }), ...(lanes.some(({ lane }) => lane.death) ? [el("span", {}, el("b", { class: "s-failed" }, "×"), " its process ended")] : []));
    }
    const x = (at) => LEFT + (at - from) / (to - from) * (box.width - LEFT - 8);
    const at = (pixel) => from + (pixel - LEFT) / (box.width - LEFT - 8) * (to - from);
    function draw() {
      box = surface(canvas, TOP + lanes.length * LANE + 8);
      const pen = box.pen;
      const paint = Object.fromEntries(kinds.map(([variable, name]) => [name, color(variable)]));
      const ink = color("quiet"), line = color("line"), background = color("bg");
      const rough = (to - from) / Math.max(2, (box.width - LEFT) / 110);
      const power = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
      pen.fillStyle = ink; pen.strokeStyle = line; pen.textAlign = "center";
      const digits = Math.max(0, -Math.floor(Math.log10(step)));
      for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
        pen.beginPath(); pen.moveTo(x(tick), TOP - 6); pen.lineTo(x(tick), box.height); pen.stroke();
        pen.fillText(tick.toFixed(Math.min(3, digits)) + " s", x(tick), 12);
      }
      lanes.forEach(({ lane, list }, number) => {
        const y = TOP + number * LANE;
        pen.save();
        // Idle is what nothing is drawn upon.
        if (lane.gone > lane.began) { pen.fillStyle = paint.idle; pen.fillRect(Math.max(LEFT, x(lane.began)), y + LANE / 2 - 2, Math.max(0, Math.min(box.width, x(lane.gone)) - Math.max(LEFT, x(lane.began))), 2); }
        pen.beginPath(); pen.rect(LEFT, y, box.width - LEFT, LANE); pen.clip();
        for (const [what, begin, stop] of lane.spans) {
          if (stop < from || begin > to) continue;
          pen.fillStyle = paint[what];
          pen.fillRect(x(begin), y + 4, Math.max(1, x(stop) - x(begin)), LANE - 10);
        }
        let covered = -1;
        for (const i of list) {
          const begin = items.began[i], stop = begin + items.seconds[i];
          if (stop < from || begin > to) continue;
          const left = x(begin), right = Math.max(left + 1, x(stop));
          const name = stateOf(i);
          // Of many passed tests within one pixel, one is enough.
          if (right <= covered && (name === "passed" || name === "skipped")) continue;
          covered = Math.max(covered, right);
          pen.fillStyle = paint[name];
          pen.fillRect(left, y + 4, right - left, LANE - 10);
          const back = items.reset[i] / (to - from) * (box.width - LEFT - 8);
          if (back >= 1) { pen.fillStyle = paint.reset; pen.fillRect(right - back, y + LANE - 10, back, 4); }
          if (right - left > 6) { pen.fillStyle = background; pen.fillRect(right - 1, y + 4, 1, LANE - 10); }
          if (i === current) { pen.strokeStyle = color("accent"); pen.lineWidth = 2; pen.strokeRect(left, y + 3, right - left, LANE - 8); pen.lineWidth = 1; }
        }
        if (lane.death && list.length) {
          // Where it died: a mark that stays as wide as it is at any zoom.
          const last = list[list.length - 1], at = x(items.began[last] + items.seconds[last]);
          pen.strokeStyle = paint.failed; pen.lineWidth = 2;
          pen.beginPath(); pen.moveTo(at - 4, y + 5); pen.lineTo(at + 4, y + 17); pen.moveTo(at + 4, y + 5); pen.lineTo(at - 4, y + 17); pen.stroke();
          pen.lineWidth = 1;
        }
        pen.restore();
        pen.fillStyle = lane.death ? paint.failed : ink;
        pen.textAlign = "left";
        pen.fillText(lane.worker + (lane.death ? " †" : ""), 10, y + LANE / 2 - 1);
      });
    }
    function hit(event) {
      const frame = canvas.getBoundingClientRect();
      const lane = lanes[Math.floor((event.clientY - frame.top - TOP) / LANE)];
      const when = at(event.clientX - frame.left);
      if (!lane || event.clientX - frame.left < LEFT) return null;
      const slack = (to - from) / box.width * 2;
      let best = -1;
      for (const i of lane.list) {
        if (items.began[i] - slack <= when && when <= items.began[i] + items.seconds[i] + slack) {
          if (best < 0 || items.state[i] < items.state[best]) best = i;
        }
      }
      const span = lane.lane.spans.find(([, begin, stop]) => begin <= when && when <= stop);
      return { lane: lane.lane, list: lane.list, i: best, span, when };
    }
    function zoom(factor, middle) {
      const width = Math.min(end, Math.max(end / 20000, (to - from) * factor));
      const share = (middle - from) / (to - from);
      from = Math.max(0, Math.min(end - width, middle - width * share));
      to = from + width;
      moved();
    }
    function moved() {
      canvas.dataset.range = from.toFixed(4) + " " + to.toFixed(4);
      $("hover").textContent = "From " + time(from) + " to " + time(to) + " of " + time(end) + ".";
      draw();
    }
    function move(share) {
      const width = to - from;
      from = Math.max(0, Math.min(end - width, from + width * share));
      to = from + width;
      moved();
    }
    $("zoom-in").addEventListener("click", () => zoom(0.5, (from + to) / 2));
    $("zoom-out").addEventListener("click", () => zoom(2, (from + to) / 2));
    $("zoom-all").addEventListener("click", () => zoom(Infinity, 0));
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      zoom(event.deltaY < 0 ? 0.8 : 1.25, at(event.clientX - canvas.getBoundingClientRect().left));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const act = { "+": () => zoom(0.5, (from + to) / 2), "=": () => zoom(0.5, (from + to) / 2), "-": () => zoom(2, (from + to) / 2),
        ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), Home: () => zoom(Infinity, 0) }[event.key];
      if (act) { event.preventDefault(); act(); }
    });
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, moved: false }; canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointerup", (event) => {
      const found = drag && !drag.moved ? hit(event) : null;
      drag = null;
      if (found && found.i >= 0) { filterFor(found.i); $("tests").scrollIntoView(); }
    });
    canvas.addEventListener("pointermove", (event) => {
      if (drag && Math.abs(event.clientX - drag.x) > 3) {
        drag.moved = true;
        move((drag.x - event.clientX) / (box.width - LEFT));
        drag.x = event.clientX;
        return;
      }
      const found = hit(event);
      if (!found) return;
      canvas.style.cursor = found.i >= 0 ? "pointer" : "crosshair";
      $("hover").textContent = found.lane.worker + " at " + time(found.when) + ": " + (found.i >= 0
        ? items.nodeid[found.i] + ", " + stateOf(found.i) + ", " + time(items.seconds[found.i])
        : found.span ? found.span[0] + ", " + time(found.span[2] - found.span[1])
          : found.when < found.lane.began ? "not there yet"
            : found.lane.gone && found.when > found.lane.gone ? "gone" + (found.lane.death ? ": " + found.lane.death : "")
              : found.lane.death && found.list.every((i) => items.began[i] < found.when) ? "its process has ended: " + found.lane.death
                : "idle");
    });
    function filterFor(i) {
      if (!order.includes(i)) { $("search").value = ""; wanted.clear(); chips(); filter(); }
      select(i, true);
    }
    legend();
    redraws.push(draw);
  }

  // ---------------------------------------------------------------- where the time goes
  function bars() {
    const parts = [["Wall time", data.wall], ["All workers together", data.spent]].filter(([, list]) => list.length);
    const slow = Array.from({ length: count }, (_, i) => i).sort(sorts.slow).slice(0, 15);
    if (!parts.length && !slow.length) return;
    $("time").hidden = false;
    for (const [title, list] of parts) {
      const total = list.reduce((sum, [, seconds]) => sum + seconds, 0) || 1;
      $("bars").append(el("h3", {}, title + ": " + time(total)));
      for (const [name, seconds] of list) {
        const fill = el("div", { class: "fill" });
        fill.style.width = (100 * seconds / total).toFixed(2) + "%";
        $("bars").append(el("span", {}, name), el("div", { class: "track" }, fill), el("span", { class: "number" }, time(seconds)));
      }
    }
    const trend = slow.some((i) => data.past[i]);
    const head = ["test", "worker", "all", "set-up", "test", "tear-down", "reset", ...(trend ? ["earlier runs"] : [])];
    const body = el("tbody", {});
    for (const i of slow) {
      body.append(el("tr", {},
        el("td", { class: "mono" }, el("a", { href: "#test=" + encodeURIComponent(items.nodeid[i]) }, items.nodeid[i])),
        el("td", {}, worker(i)),
        ...[items.seconds[i], items.setup[i], items.call[i], Math.max(0, items.teardown[i] - items.reset[i]), items.reset[i]]
          .map((seconds) => el("td", { class: "number" }, time(seconds))),
        trend ? el("td", { class: "trend" }, data.past[i] ? sparkline(data.past[i].seconds) || "" : "") : null));
    }
    $("slowest").append(el("thead", {}, el("tr", {}, ...head.map((name, place) => el("th", { scope: "col", class: place > 1 && place < 7 ? "number" : "" }, name)))), body);
  }

  // ---------------------------------------------------------------- history
  function trends() {
    const runs = data.runs;
    if (runs.length < 2) return;
    $("history").hidden = false;
    const charts = [
      ["Wall time", runs.map((run) => run.seconds), time, "accent"],
      ["Failed tests", runs.map((run) => run.failed), String, "failed"],
      ["Flaky tests", runs.map((run) => run.flaky), String, "flaky"],
    ];
    for (const [title, values, said, paint] of charts) {
      const most = Math.max(...values) || 1;
      const chart = svg("svg", { viewBox: "0 0 300 90", preserveAspectRatio: "none", role: "img",
        "aria-label": title + " of " + runs.length + " runs; now " + said(values[values.length - 1]) + ", most " + said(Math.max(...values)) });
      const width = Math.min(12, 300 / values.length);
      values.forEach((value, place) => {
        const high = value ? Math.max(1.5, value / most * 84) : 0;
        const bar = svg("rect", { x: (place * width).toFixed(2), y: (88 - high).toFixed(2), width: Math.max(0.6, width - (width > 3 ? 1 : 0)).toFixed(2), height: high.toFixed(2) });
        bar.append(svg("title", {}));
        bar.firstChild.textContent = said(value) + ", " + when(runs[place]) + (runs[place].commit ? ", commit " + runs[place].commit : "");
        bar.style.fill = "var(--" + paint + ")";
        bar.style.opacity = place === values.length - 1 ? "1" : ".55";
        chart.append(bar);
      });
      $("trends").append(el("figure", {}, el("figcaption", {}, title + ": " + said(values[values.length - 1]) + " now, " + said(Math.max(...values)) + " at most"), chart));
    }
    $("span").textContent = runs.length + " runs, from " + when(runs[0]) + " to " + when(runs[runs.length - 1]) + ".";
    heat();
  }
  function heat() {
    const canvas = $("heat"), ROWS = 60, CELL = 15;
    const weight = { f: 2, c: 3, k: 2 };
    const trouble = Object.entries(data.history).map(([i, row]) => {
      let sum = 0;
      for (const letter of row) sum += weight[letter] || 0;
      return [sum, Number(i)];
    }).filter(([sum]) => sum).sort((a, b) => b[0] - a[0] || a[1] - b[1]).slice(0, ROWS).map(([, i]) => i);
    if (!trouble.length) { canvas.hidden = true; $("heat-hover").textContent = "No test of this run failed or flaked in any of the runs."; return; }
    let box, left, wide, chosen = null;
    canvas.setAttribute("aria-label", "Outcomes of " + trouble.length + " tests in " + data.runs.length + " runs. Arrow keys move from one to the next, Enter shows the test; the table below has the sums.");
    function draw() {
      box = surface(canvas, trouble.length * CELL + 16);
      const pen = box.pen;
      left = Math.min(box.width * 0.45, 420);
      wide = Math.min(24, (box.width - left - 12) / data.runs.length);
      const paint = { p: color("bar-passed"), f: color("bar-failed"), c: color("bar-crashed"), k: color("bar-flaky"), s: color("skipped") };
      pen.font = "11px ui-monospace, monospace";
      trouble.forEach((i, row) => {
        const y = 8 + row * CELL;
        pen.fillStyle = color("ink");
        let name = items.nodeid[i];
        const room = Math.floor((left - 20) / 6.7);
        if (name.length > room) name = "…" + name.slice(1 - room);
        pen.fillText(name, 10, y + CELL / 2);
        const letters = data.history[i];
        for (let run = 0; run < letters.length; run++) {
          if (!(letters[run] in paint)) continue;
          pen.fillStyle = paint[letters[run]];
          pen.fillRect(left + run * wide, y + 1, Math.max(1, wide - (wide > 4 ? 1 : 0)), CELL - 2);
        }
        if (chosen && chosen.row === row) { pen.strokeStyle = color("accent"); pen.lineWidth = 2; pen.strokeRect(left + chosen.run * wide - 1, y, Math.max(3, wide), CELL); pen.lineWidth = 1; }
      });
    }
    function tell(i, at) {
      const run = data.runs[at];
      $("heat-hover").textContent = items.nodeid[i] + (run
        ? ": " + LETTERS[data.history[i][at]] + " in run " + run.run + ", " + when(run) + (run.commit ? ", commit " + run.commit : "") : "");
    }
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -data.runs.length], End: [0, data.runs.length] }[event.key];
      if (event.key === "Enter" && chosen) { select(trouble[chosen.row], true); $("tests").scrollIntoView(); return; }
      if (!step) return;
      event.preventDefault();
      const from = chosen || { row: 0, run: data.runs.length - 1 };
      const clamp = (value, most) => Math.min(most, Math.max(0, value));
      chosen = chosen ? { row: clamp(from.row + step[0], trouble.length - 1), run: clamp(from.run + step[1], data.runs.length - 1) } : from;
      draw();
      tell(trouble[chosen.row], chosen.run);
    });
    const body = el("tbody", {});
    trouble.slice(0, 25).forEach((i) => {
      const letters = data.history[i], known = data.past[i];
      const worst = Math.max(letters.lastIndexOf("f"), letters.lastIndexOf("c"), letters.lastIndexOf("k"));
      body.append(el("tr", {},
        el("td", { class: "mono" }, testLink(items.nodeid[i])),
        el("td", {}, bySaid(letters)),
        el("td", {}, known ? rate(known) : ""),
        el("td", {}, worst < 0 ? "" : when(data.runs[worst]))));
    });
    $("troubled").append(el("thead", {}, el("tr", {}, ...["test", "runs", "flake rate", "last failure"].map((name) => el("th", { scope: "col" }, name)))), body);
    $("troubled-part").hidden = false;
    function cellAt(event) {
      const frame = canvas.getBoundingClientRect();
      const row = Math.floor((event.clientY - frame.top - 8) / CELL);
      const run = Math.floor((event.clientX - frame.left - left) / wide);
      return trouble[row] === undefined ? null : { i: trouble[row], run };
    }
    canvas.addEventListener("pointermove", (event) => {
      const found = cellAt(event);
      if (!found) return;
      tell(found.i, found.run);
    });
    canvas.addEventListener("click", (event) => {
      const found = cellAt(event);
      if (found) { select(found.i, true); $("tests").scrollIntoView(); }
    });
    redraws.push(draw);
  }

  // ---------------------------------------------------------------- print
  addEventListener("afterprint", applyTheme);
  addEventListener("beforeprint", () => {
    root.dataset.theme = "light";
    redraw();
    const old = $("print");
    if (old) old.remove();
    const bad = Array.from({ length: count }, (_, i) => i).filter((i) => ["crashed", "failed", "flaky"].includes(stateOf(i))).sort(sorts.worst);
    if (!bad.length || !$("tests")) return;
    $("tests").append(el("div", { id: "print" }, ...bad.slice(0, 100).map((i) => el("div", { class: "print-item" }, ...detail(i)))));
    document.querySelectorAll("#print details").forEach((each) => { each.open = true; });
  });

  function sections() {
    const found = [...document.querySelectorAll("main section[id]")].filter((each) => !each.hidden);
    $("nav").append(...found.map((each) => el("a", { href: "#" + each.id }, each.querySelector("h2").textContent)));
  }

  if ($("tests") && count) {
    $("tests").hidden = false;
    chips();
    $("search").addEventListener("input", filter);
    $("sort").addEventListener("change", filter);
    $("list").addEventListener("scroll", rows, { passive: true });
    $("list").addEventListener("keydown", onKey);
    addEventListener("hashchange", () => followLink(true));
    addEventListener("keydown", (event) => {
      if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) { event.preventDefault(); $("search").focus(); }
    });
    filter();
    if (!followLink(false) && order.length) select(order[0], false);
    timeline();
    bars();
    trends();
  }
  sections();
  applyTheme();
  new ResizeObserver(() => { redraw(); if ($("tests")) rows(); }).observe(document.body);
  root.dataset.ready = "yes";
})();
