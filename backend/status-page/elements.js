// Elements of the page. What comes from the server is put in as text, never as markup.

/**
 * @param {string} text
 * @param {string} [className]
 */
export function span(text, className) {
  const element = document.createElement('span')
  element.textContent = text
  if (className !== undefined) element.className = className
  return element
}

/** @param {string} id */
export function byId(id) {
  const element = document.getElementById(id)
  if (element === null) throw new Error(`the page has no ${id}`)
  return element
}
