// What the tests of the status page do inside it. Each function is sent to the browser as text: it uses nothing from here.

/** Texts whose colour stands out too little from what is behind them (WCAG AA: 4.5 to 1). */
export function findFaintTexts() {
  /** @param {string} colour */
  const parse = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number)
  /** @param {number[]} colour */
  const luminance = (colour) => {
    const [red = 0, green = 0, blue = 0] = colour.slice(0, 3).map((channel) => {
      const share = channel / 255
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }
  /**
   * @param {Element | null} element
   * @returns {number[]}
   */
  const backgroundOf = (element) => {
    if (element === null) return [255, 255, 255]
    const colour = parse(getComputedStyle(element).backgroundColor)
    return colour.length === 3 || colour[3] === 1 ? colour : backgroundOf(element.parentElement)
  }
  /** @type {string[]} */
  const faint = []
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  for (let node = texts.nextNode(); node !== null; node = texts.nextNode()) {
    const element = node.parentElement
    if (element === null || node.textContent?.trim() === '' || !element.checkVisibility()) continue
    const [one = 0, other = 0] = [parse(getComputedStyle(element).color), backgroundOf(element)].map(luminance)
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05)
    if (ratio < 4.5) faint.push(`${node.textContent} ${ratio.toFixed(2)}`)
  }
  return faint
}

export const widthOf = () => document.documentElement.scrollWidth

export const hasCommits = () =>
  document.querySelector('[data-figure=commit_p50_ms]')?.textContent?.includes('–') === false

/** @param {string} text */
export const hasText = (text) => document.body.textContent?.includes(text) === true

/**
 * Puts a page into a frame, and says whether this page can reach into it.
 * @param {string} url
 */
export async function frameOf(url) {
  const element = document.createElement('iframe')
  element.src = url
  document.body.append(element)
  await new Promise((resolve) => element.addEventListener('load', resolve))
  return element.contentDocument === null ? 'out of reach' : 'in reach'
}
