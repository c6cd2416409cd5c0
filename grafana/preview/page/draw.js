// Draws BOARD: panels at their grid positions, as the dashboard's JSON describes them.
"use strict";

const ROW = 38, GAP = 8, MARGIN = 12;
const WIDTH = document.documentElement.clientWidth - 2 * MARGIN;
const PALETTE = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0", "#37872d", "#fade2a",
  "#447ebc", "#c15c17", "#890f02", "#0a437c", "#6d1f62", "#584477"];
const COLOURS = {
  green: "#73bf69", orange: "#ff9830", red: "#f2495c", blue: "#5794f2", yellow: "#fade2a", transparent: "transparent",
};
const CALCULATIONS = {
  mean: ["Mean", (values) => values.reduce((sum, value) => sum + value, 0) / values.length],
  max: ["Max", (values) => Math.max(...values)],
  min: ["Min", (values) => Math.min(...values)],
  lastNotNull: ["Last *", (values) => values[values.length - 1]],
};

const POWERS = Array.from({ length: 30 }, (_, power) => 2 ** (power + 10));

function element(name, parent, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  parent.append(made);
  return made;
}

function colourOf(value, steps) {
  let colour = "#ccccdc";
  for (const step of steps || []) if (step.value === null || value >= step.value) colour = COLOURS[step.color];
  return colour;
}

function head() {
  const header = document.querySelector("header");
  const title = element("h1", header, BOARD.title);
  const [begin, end] = BOARD.span.map((moment) => new Date(moment * 1000).toTimeString().slice(0, 8));
  element("small", title, `${begin} to ${end}`);
  const variables = element("div", header, undefined, "variables");
  for (const variable of BOARD.templating.list) {
    const shown = element("span", variables);
    element("b", shown, variable.label);
    element("i", shown, variable.type === "datasource" ? "Prometheus" : "All");
  }
}

function place(target, grid) {
  const column = (WIDTH + GAP) / 24;
  Object.assign(target.style, {
    left: `${MARGIN + grid.x * column}px`, top: `${grid.y * ROW}px`,
    width: `${grid.w * column - GAP}px`, height: `${grid.h * ROW - GAP}px`,
  });
}

function fixedColour(panel, series) {
  for (const override of panel.fieldConfig.overrides) {
    if (override.matcher.id !== "byFrameRefID" || override.matcher.options !== series.query) continue;
    for (const property of override.properties) if (property.id === "color") return COLOURS[property.value.fixedColor];
  }
  return null;
}

function timeseries(panel, box) {
  const { unit, decimals, custom, min, max, thresholds } = panel.fieldConfig.defaults;
  const series = panel.data.filter((each) => each.points.some(([, value]) => value !== null));
  if (!series.length) return empty(box);
  const calculations = panel.options.legend.calcs;
  const shown = series.slice(0, 7);
  const legendHeight = (shown.length + (calculations.length ? 1 : 0)) * 17 + 6;
  const times = [...new Set(series.flatMap((each) => each.points.map(([moment]) => moment)))].sort((a, b) => a - b);
  const lines = series.map((each) => {
    const known = new Map(each.points);
    return times.map((moment) => known.get(moment) ?? null);
  });
  const stacked = custom.stacking?.mode === "normal";
  const drawn = lines.map((line) => line.slice());
  if (stacked) {
    for (let at = 0; at < times.length; at += 1) {
      let below = 0;
      for (const line of drawn) {
        below += line[at] ?? 0;
        line[at] = below;
      }
    }
  }
  const colours = series.map((each, index) => fixedColour(panel, each) || PALETTE[index % PALETTE.length]);
  const fill = (colour) => colour + Math.round(custom.fillOpacity * 2.55).toString(16).padStart(2, "0");
  const order = series.map((_, index) => index);
  if (stacked) order.reverse();  // the lowest is drawn last, over the others
  const limit = custom.thresholdsStyle?.mode === "dashed" ? thresholds.steps[thresholds.steps.length - 1].value : null;
  const largest = Math.max(...drawn.flat().filter((value) => value !== null), 0);
  const axis = { stroke: "#9a9ba8", font: "11px 'DejaVu Sans'", grid: { stroke: "#24272d", width: 1 }, ticks: { show: false } };
  const holder = element("div", box, undefined, "lines");
  new uPlot({
    width: box.clientWidth - 14, height: box.clientHeight - 30 - legendHeight,
    legend: { show: false }, cursor: { show: false }, padding: [8, 10, 0, 0],
    scales: { x: { time: true, range: () => BOARD.span }, y: { range: () => [min ?? 0, max ?? (largest * 1.08 || 1)] } },
    axes: [
      { ...axis, size: 26, values: (_, moments) => moments.map(clock) },
      { ...axis, size: 74, incrs: unit === "bytes" ? POWERS : undefined, values: (_, values) => values.map((value) => written(value, unit, decimals)) },
    ],
    series: [{}, ...order.map((index) => ({
      stroke: colours[index], width: custom.lineWidth, points: { show: false },
      // Without transparency, what lies behind would shine through what is stacked before it.
      fill: custom.fillOpacity ? (stacked ? mixed(colours[index], custom.fillOpacity) : fill(colours[index])) : undefined,
    }))],
    hooks: { draw: [(plot) => limit !== null && dashed(plot, limit)] },
  }, [times, ...order.map((index) => drawn[index])], holder);
  const table = element("table", box, undefined, "legend");
  if (calculations.length) {
    const titles = element("tr", table);
    element("th", titles, "Name");
    for (const name of calculations) element("th", titles, CALCULATIONS[name][0]);
  }
  shown.forEach((each, index) => {
    const line = element("tr", table);
    const name = element("td", line);
    element("i", name).style.background = colours[index];
    const more = index === shown.length - 1 && series.length > shown.length ? ` (and ${series.length - shown.length} more)` : "";
    name.append(each.name + more);
    const values = lines[index].filter((value) => value !== null);
    for (const calculation of calculations) element("td", line, written(CALCULATIONS[calculation][1](values), unit, decimals));
  });
}

function clock(moment) {
  // Minutes only would say the same again and again in a short span.
  return new Date(moment * 1000).toTimeString().slice(0, BOARD.span[1] - BOARD.span[0] < 1200 ? 8 : 5);
}

function mixed(colour, opacity) {
  const part = (at) => {
    const over = parseInt(colour.slice(at, at + 2), 16), under = parseInt("181b1f".slice(at - 1, at + 1), 16);
    return Math.round((over * opacity + under * (100 - opacity)) / 100).toString(16).padStart(2, "0");
  };
  return `#${part(1)}${part(3)}${part(5)}`;
}

function dashed(plot, value) {
  const at = plot.valToPos(value, "y", true);
  const { left, top, width } = plot.bbox;
  if (at < top) return;
  plot.ctx.save();
  plot.ctx.strokeStyle = COLOURS.red;
  plot.ctx.setLineDash([8, 6]);
  plot.ctx.beginPath();
  plot.ctx.moveTo(left, at);
  plot.ctx.lineTo(left + width, at);
  plot.ctx.stroke();
  plot.ctx.restore();
}

function stat(panel, box) {
  const { unit, decimals, thresholds } = panel.fieldConfig.defaults;
  const holder = element("div", box, undefined, "number");
  if (!panel.data.length) element("span", holder, "-");
  for (const each of panel.data) {
    const known = each.points.map(([, value]) => value).filter((value) => value !== null);
    const value = known[known.length - 1];
    const colour = colourOf(value, thresholds.steps);
    if (panel.options.textMode === "value_and_name") element("em", holder, each.name);
    const text = written(value, unit, decimals);
    const size = Math.min(38, 1.5 * box.clientWidth / text.length);
    Object.assign(element("span", holder, text).style, { color: colour, fontSize: `${size}px` });
    if (panel.options.graphMode === "area" && known.length > 1) area(element("canvas", holder), known, colour);
  }
}

function area(canvas, values, colour) {
  const context = canvas.getContext("2d");
  const largest = Math.max(...values) || 1;
  canvas.width = 300;
  canvas.height = 60;
  context.beginPath();
  context.moveTo(0, 60);
  values.forEach((value, index) => context.lineTo(300 * index / (values.length - 1), 58 - 54 * value / largest));
  context.lineTo(300, 60);
  context.fillStyle = colour + "55";
  context.fill();
}

function bargauge(panel, box) {
  const { unit, decimals, thresholds, max } = panel.fieldConfig.defaults;
  if (!panel.data.length) return empty(box);
  const holder = element("div", box, undefined, "bars");
  const values = panel.data.map((each) => each.points[0][1]);
  const largest = max ?? Math.max(...values);
  panel.data.forEach((each, index) => {
    const line = element("div", holder);
    const colour = colourOf(values[index], thresholds.steps);
    element("u", line, each.name);
    const bar = element("i", element("s", line));
    Object.assign(bar.style, { width: `${Math.min(100, 100 * values[index] / largest)}%`, background: colour });
    element("b", line, written(values[index], unit, decimals)).style.color = colour;
  });
}

function table(panel, box) {
  const { columns, rows } = panel.data;
  if (!rows.length) return empty(box);
  const told = new Map(panel.fieldConfig.overrides.map((override) =>
    [override.matcher.options, Object.fromEntries(override.properties.map(({ id, value }) => [id, value]))]));
  const holder = element("table", box, undefined, "table");
  const titles = element("tr", holder);
  const isText = (column) => told.get(column).unit === "string";
  for (const column of columns) {
    const cell = element("th", titles, column, isText(column) ? "" : "value");
    if (told.get(column)["custom.width"]) cell.style.width = `${told.get(column)["custom.width"]}px`;
  }
  for (const row of rows) {
    const line = element("tr", holder);
    row.forEach((value, index) => cell(line, value, told.get(columns[index]), isText(columns[index])));
  }
}

function cell(line, value, told, isText) {
  const text = written(value, told.unit, told.decimals);
  const colour = told.thresholds && value !== null ? colourOf(value, told.thresholds.steps) : "";
  if (told["custom.cellOptions"]?.type === "gauge" && value !== null) {
    const gauge = element("div", element("td", line), undefined, "gauge");
    Object.assign(element("i", element("s", gauge)).style, { width: `${Math.min(1, value) * 100}%`, background: colour });
    element("b", gauge, text).style.color = colour;
  } else {
    element("td", line, text, isText ? "" : "value").style.color = colour;
  }
}

function empty(box) {
  element("div", box, "No data", "empty");
}

const KINDS = { timeseries, stat, bargauge, table };

head();
for (const panel of BOARD.panels) {
  const main = document.querySelector("main");
  if (panel.type === "row") {
    place(element("div", main, `⌄ ${panel.title}`, "row"), panel.gridPos);
  } else {
    const box = element("section", main);
    place(box, panel.gridPos);
    element("h2", box, panel.title);
    KINDS[panel.type](panel, box);
  }
}
