// A small plot of the last minutes in an SVG element: lines, or bars for what is counted now and then. It is drawn over a
// fixed span of time whose end is now, so that a young server's plot grows from the right.

const WIDTH = 300
const HEIGHT = 100
/** Above the highest value, so that its line is seen whole. */
const HEADROOM = 1.08

/**
 * @typedef {object} Frame
 * @property {readonly number[]} seconds when each value was taken, Unix milliseconds
 * @property {readonly (readonly (number | null)[])[]} lines values beside `seconds`, one list a line
 * @property {number} spanMs how much time the plot shows
 * @property {number} atLeast a plot of smaller values is drawn as if this were the highest
 */

/**
 * @param {SVGSVGElement} svg
 * @param {{ kind: 'lines' | 'bars', lineCount: number }} shape
 */
export function createPlot(svg, { kind, lineCount }) {
  svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`)
  const area = kind === 'lines' && lineCount === 1 ? append(svg, 'path', 'area') : undefined
  const paths = Array.from({ length: lineCount }, (_, i) => append(svg, 'path', i === 0 ? 'first' : 'second'))
  const cursor = append(svg, 'line', 'cursor')
  cursor.setAttribute('y1', '0')
  cursor.setAttribute('y2', String(HEIGHT))
  hide(cursor)

  return {
    /** @param {Frame} frame */
    draw: ({ seconds, lines, spanMs, atLeast }) => {
      const end = seconds.at(-1) ?? 0
      const top = Math.max(atLeast, ...lines.flat().map((value) => value ?? 0)) * HEADROOM
      /** @param {number} at */
      const x = (at) => round(WIDTH * (1 - (end - at) / spanMs))
      /** @param {number} value */
      const y = (value) => round(HEIGHT * (1 - value / top))
      for (const [i, path] of paths.entries()) {
        const points = seconds.map((at, second) => ({ x: x(at), value: lines[i]?.[second] ?? null }))
        const runs = runsOf(points).map((run) => run.map((point) => ({ x: point.x, y: y(point.value) })))
        path.setAttribute('d', kind === 'bars' ? bars(points, y) : runs.map(line).join(''))
        if (i === 0) area?.setAttribute('d', runs.map(areaUnder).join(''))
      }
    },
    /**
     * Marks a moment, or none.
     * @param {number | undefined} share from 0, the left edge, to 1
     */
    mark: (share) => {
      if (share === undefined) return hide(cursor)
      for (const name of ['x1', 'x2']) cursor.setAttribute(name, String(round(share * WIDTH)))
      cursor.removeAttribute('visibility')
    },
  }
}

/** @typedef {{ x: number, y: number }} Point */

/**
 * What belongs together: a second without a value ends a line.
 * @param {readonly { x: number, value: number | null }[]} points
 */
function runsOf(points) {
  /** @type {{ x: number, value: number }[][]} */
  const runs = [[]]
  for (const { x, value } of points) {
    if (value === null) runs.push([])
    else runs.at(-1)?.push({ x, value })
  }
  return runs.filter((run) => run.length > 0)
}

/** @param {readonly Point[]} run */
function line(run) {
  const [first, ...others] = run
  if (first === undefined) return ''
  // A line without length is drawn as a dot.
  return `M${first.x} ${first.y}h0.01${others.map(({ x, y }) => `L${x} ${y}`).join('')}`
}

/** @param {readonly Point[]} run */
function areaUnder(run) {
  const [first, last] = [run[0], run.at(-1)]
  if (first === undefined || last === undefined) return ''
  return `M${first.x} ${HEIGHT}${run.map(({ x, y }) => `L${x} ${y}`).join('')}L${last.x} ${HEIGHT}Z`
}

/**
 * @param {readonly { x: number, value: number | null }[]} points
 * @param {(value: number) => number} y
 */
const bars = (points, y) =>
  points
    .filter(({ value }) => value !== null && value > 0)
    .map(({ x, value }) => `M${x} ${HEIGHT}V${y(value ?? 0)}`)
    .join('')

/**
 * @template {'path' | 'line'} Name
 * @param {SVGSVGElement} svg
 * @param {Name} name
 * @param {string} className
 * @returns {SVGElementTagNameMap[Name]}
 */
function append(svg, name, className) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name)
  element.setAttribute('class', className)
  svg.append(element)
  return element
}

/** @param {SVGElement} element */
const hide = (element) => element.setAttribute('visibility', 'hidden')

/** @param {number} value */
const round = (value) => Math.round(value * 100) / 100
