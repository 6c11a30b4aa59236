// How the page says numbers, spans of time and moments. Pure.

const whole = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 0 })
const short = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 1 })
const fine = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 2 })

/** @param {number} value */
export const count = (value) => (value !== 0 && value < 10 ? short : whole).format(value)

/** @param {number} value */
export function milliseconds(value) {
  if (value >= 10_000) return `${short.format(value / 1000)} s`
  return `${(value < 1 ? fine : value < 10 ? short : whole).format(value)} ms`
}

/** @param {number} value */
export function bytes(value) {
  if (value < 1024 * 1024) return `${whole.format(value / 1024)} KiB`
  return `${short.format(value / 1024 / 1024)} MiB`
}

/** @param {number} share 1 is one core */
export const percent = (share) => `${whole.format(share * 100)} %`

/**
 * In the two units that say most.
 * @param {number} spanMs
 */
export function duration(spanMs) {
  const seconds = Math.max(0, Math.floor(spanMs / 1000))
  const units = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ]
  const first = units.findIndex(([amount]) => amount !== 0)
  if (first === -1) return '0 s'
  return units
    .slice(first, first + 2)
    .filter(([amount]) => amount !== 0)
    .map(([amount, unit]) => `${amount} ${unit}`)
    .join(' ')
}

/** @param {number} spanMs */
export const ago = (spanMs) => (spanMs < 1500 ? 'now' : `${duration(spanMs)} ago`)
