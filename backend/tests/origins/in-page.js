// What the test of origins does inside a page. Each function is sent to the browser as text: it uses nothing from here.

/**
 * How a WebSocket to the server ends: `open`, or `closed` without having been open.
 * @param {string} url
 * @returns {Promise<string>}
 */
export function tryWebSocket(url) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url)
    socket.onopen = () => {
      resolve('open')
      socket.close()
    }
    socket.onclose = () => resolve('closed')
  })
}

/**
 * The status of a request, or `blocked` when the page may not read the answer.
 * @param {{ url: string, method?: string, headers?: Record<string, string> }} request
 * @returns {Promise<string>}
 */
export function tryFetch({ url, method = 'GET', headers = {} }) {
  return fetch(url, { method, headers }).then(
    (response) => response.text().then(() => `${response.status}`),
    () => 'blocked',
  )
}

/**
 * Loads the address as an image, which no page is kept from.
 * @param {string} url
 * @returns {Promise<void>}
 */
export function loadAsImage(url) {
  return new Promise((resolve) => {
    const image = new Image()
    image.onload = image.onerror = () => resolve()
    image.src = url
  })
}
