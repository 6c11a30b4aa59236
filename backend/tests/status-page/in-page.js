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

/** Texts that do not fit their place, and titles of cards that run into their figures. */
export function findCrampedTexts() {
  // What stands within a line has no width of its own.
  const cut = [...document.querySelectorAll('h2, p, span, td, code')].filter(
    ({ clientWidth, scrollWidth }) => clientWidth > 0 && scrollWidth > clientWidth,
  )
  /** @param {Node} node */
  const boundsOf = (node) => {
    const range = document.createRange()
    range.selectNodeContents(node)
    return range.getBoundingClientRect()
  }
  const covered = [...document.querySelectorAll('.card')].filter((card) => {
    const [title, figures] = ['h2', '.figures'].map((selector) => card.querySelector(selector))
    if (!title || !figures) return true
    const [one, other] = [boundsOf(title), boundsOf(figures)]
    return one.right > other.left && one.left < other.right && one.bottom > other.top && one.top < other.bottom
  })
  return [...cut, ...covered].map((element) => element.textContent)
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
