// The dashboard's panels, drawn with Grafana's components. What Grafana itself does around them (the grid, rows,
// queries with their variables) is done here, in the simplest way.

import {
  FieldConfigOptionsRegistry,
  FieldType,
  applyFieldOverrides,
  applyNullInsertThreshold,
  createTheme,
  dateTime,
  displayNameOverrideProcessor,
  getFieldDisplayValues,
  identityOverrideProcessor,
  numberOverrideProcessor,
  rangeUtil,
  ThemeContext,
  thresholdsOverrideProcessor,
  toDataFrame,
  unitOverrideProcessor,
  valueMappingsOverrideProcessor,
} from '@grafana/data';
import { BigValue, GlobalStyles, Icon, PanelChrome, PortalContainer, Text, TimeSeries } from '@grafana/ui';
import 'uplot/dist/uPlot.min.css';
import { createRoot } from 'react-dom/client';

const WIDTH = 1400;
const EDGE = 16;
// Grafana's grid: 24 columns, and cells of 30 pixels with gaps of 8.
const COLUMNS = 24;
const CELL = 30;
const GAP = 8;

const theme = createTheme({ colors: { mode: 'dark' } });
const json = async (url) => (await fetch(url)).json();
const settings = await json('/settings.json');
const dashboard = await json('/dashboard.json');

// Axes are drawn on a canvas, which does not wait for a font.
for (const [name, weight] of [['Regular', '400'], ['Medium', '500']]) {
  const font = new FontFace('Inter', `url(/public/fonts/inter/Inter-${name}.woff2)`, { weight });
  document.fonts.add(await font.load());
}

const from = dateTime(settings.from * 1000);
const to = dateTime(settings.to * 1000);
const timeRange = { from, to, raw: { from, to } };

// What Grafana registers for every kind of panel.
const standard = {
  displayName: displayNameOverrideProcessor,
  unit: unitOverrideProcessor,
  min: numberOverrideProcessor,
  max: numberOverrideProcessor,
  decimals: numberOverrideProcessor,
  color: identityOverrideProcessor,
  mappings: valueMappingsOverrideProcessor,
  thresholds: thresholdsOverrideProcessor,
};

function option(id, path, process, isCustom) {
  return { id, path, process, isCustom, name: id, shouldApply: () => true, settings: {} };
}

function registry(config) {
  const custom = Object.keys(config.defaults.custom ?? {});
  return new FieldConfigOptionsRegistry(() => [
    ...Object.entries(standard).map(([name, process]) => option(name, name, process, false)),
    ...custom.map((name) => option(`custom.${name}`, name, identityOverrideProcessor, true)),
  ]);
}

function box({ x, y, w, h }) {
  const column = (WIDTH - 2 * EDGE + GAP) / COLUMNS;
  return {
    left: EDGE + x * column,
    top: y * (CELL + GAP),
    width: w * column - GAP,
    height: h * (CELL + GAP) - GAP,
  };
}

// Returns a frame for each series of a target, with the step and the interval of rates that Grafana would choose.
async function query(target, pixels) {
  const { intervalMs } = rangeUtil.calculateInterval(timeRange, pixels, `${settings.scrape}s`);
  const step = intervalMs / 1000;
  const rate = Math.max(step + settings.scrape, 4 * settings.scrape);
  const expression = target.expr.replaceAll('$__rate_interval', `${rate}s`).replaceAll('$instance', '.*');
  const align = (time) => Math.floor(time / step) * step;
  const range = { start: align(from.unix()), end: align(to.unix()), step };
  const answer = await json(
    `${settings.prometheus}/api/v1/query_range?${new URLSearchParams({ query: expression, ...range })}`
  );
  if (answer.status !== 'success') {
    throw new Error(`${expression}: ${answer.error}`);
  }
  return answer.data.result.map(({ metric, values }) =>
    toDataFrame({
      refId: target.refId,
      fields: [
        {
          name: 'Time',
          type: FieldType.time,
          config: { interval: intervalMs },
          values: values.map(([time]) => time * 1000),
        },
        {
          name: 'Value',
          type: FieldType.number,
          labels: metric,
          config: { displayNameFromDS: legend(target.legendFormat, metric) },
          values: values.map(([, value]) => Number(value)),
        },
      ],
    })
  );
}

function legend(format, labels) {
  return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? name);
}

async function load(panel) {
  const pixels = Math.round(box(panel.gridPos).width);
  const data = await Promise.all((panel.targets ?? []).map((target) => query(target, pixels)));
  const frames = applyFieldOverrides({
    data: data.flat(),
    fieldConfig: panel.fieldConfig,
    fieldConfigRegistry: registry(panel.fieldConfig),
    replaceVariables: (text) => text,
    theme,
    timeZone: 'utc',
  });
  return { panel, frames };
}

function Stat({ panel, frames, width, height }) {
  const { reduceOptions, colorMode, graphMode, textMode } = panel.options;
  const values = getFieldDisplayValues({
    fieldConfig: panel.fieldConfig,
    reduceOptions,
    replaceVariables: (text) => text,
    theme,
    data: frames,
    sparkline: graphMode !== 'none',
    timeZone: 'utc',
  });
  return values.map(({ display, sparkline }, index) => (
    <BigValue
      key={index}
      value={display}
      sparkline={sparkline}
      count={values.length}
      {...{ colorMode, graphMode, textMode, theme, height, width: width / values.length }}
    />
  ));
}

function Graph({ panel, frames, width, height }) {
  // Without this a line goes through the gaps of all series but the first.
  const refFieldPseudoMin = from.valueOf();
  const refFieldPseudoMax = to.valueOf();
  const withGaps = frames.map((frame) => applyNullInsertThreshold({ frame, refFieldPseudoMin, refFieldPseudoMax }));
  return (
    <TimeSeries frames={withGaps} {...{ timeRange, width, height }} timeZone="utc" legend={panel.options.legend} />
  );
}

const kinds = { stat: Stat, timeseries: Graph };

function Panel({ panel, frames }) {
  const place = box(panel.gridPos);
  const Kind = kinds[panel.type];
  return (
    <div style={{ position: 'absolute', ...place }}>
      <PanelChrome title={panel.title} description={panel.description} width={place.width} height={place.height}>
        {(width, height) => (frames.length > 0 ? <Kind {...{ panel, frames, width, height }} /> : 'No data')}
      </PanelChrome>
    </div>
  );
}

function Row({ panel }) {
  return (
    <div style={{ position: 'absolute', display: 'flex', alignItems: 'center', gap: 6, ...box(panel.gridPos) }}>
      <Icon name="angle-down" />
      <Text variant="h5">{panel.title}</Text>
    </div>
  );
}

function Page({ loaded }) {
  const bottom = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h)) * (CELL + GAP);
  const clock = (time) => time.utc().format('YYYY-MM-DD HH:mm');
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ padding: `12px ${EDGE}px`, display: 'flex', justifyContent: 'space-between' }}>
        <Text variant="h3">{dashboard.title}</Text>
        <Text color="secondary">
          {clock(from)} to {clock(to)} UTC
        </Text>
      </div>
      <div style={{ position: 'relative', height: bottom + EDGE }}>
        {loaded.map(({ panel, frames }) =>
          panel.type === 'row' ? <Row key={panel.id} panel={panel} /> : <Panel key={panel.id} {...{ panel, frames }} />
        )}
      </div>
      <PortalContainer />
    </ThemeContext.Provider>
  );
}

const loaded = await Promise.all(
  dashboard.panels.map((panel) => (panel.type === 'row' ? { panel, frames: [] } : load(panel)))
);
createRoot(document.getElementById('page')).render(<Page loaded={loaded} />);
// For draw.mjs: what is there when everything is drawn, and which panels have no numbers.
const full = loaded.filter(({ frames }) => frames.length > 0);
window.expected = {
  charts: full.filter(({ panel }) => panel.type === 'timeseries').length,
  icons: loaded.filter(({ panel }) => panel.type === 'row' || panel.description).length,
  empty: loaded.filter((one) => one.panel.type !== 'row' && !full.includes(one)).map(({ panel }) => panel.title),
};
