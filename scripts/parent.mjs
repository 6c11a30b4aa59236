// npm starts a script through a shell that keeps signals to itself: ended by SIGTERM or SIGKILL, npm leaves the script
// running. So the script looks whether its parent is still there, and takes its end as a SIGTERM.

const lookEveryMs = 250

/** Does nothing when not started by npm: whoever starts a script by hand may well leave it running. */
export function endWithNpm() {
  if (!process.env['npm_lifecycle_event']) return
  const parent = process.ppid
  const timer = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(timer)
    process.kill(process.pid, 'SIGTERM')
  }, lookEveryMs)
  timer.unref()
}
