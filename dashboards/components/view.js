// Shows the HTML that Python renders, kept in step by patch.js, and tells Python what the user does with it.

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]]

function relative(seconds, language) {
  const [unit, size] = UNITS.find(([, s]) => Math.abs(seconds) >= s) || UNITS[3]
  return new Intl.RelativeTimeFormat(language, {numeric: "auto", style: "short"}).format(Math.trunc(seconds / size), unit)
}

function elapsed(seconds) {
  const left = Math.max(0, Math.trunc(seconds))
  const two = (part) => String(part).padStart(2, "0")
  return `${Math.trunc(left / 3600)}:${two(Math.trunc(left / 60) % 60)}:${two(left % 60)}`
}

// The browser knows the user's clock and time zone; the server does not.
function showTimes(root) {
  const language = document.documentElement.lang
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime)
    let text = relative((at - Date.now()) / 1000, language)
    if (element.dataset.clock !== undefined) {
      text = at.toLocaleTimeString(language, {hour12: false})
    } else if (element.dataset.elapsed !== undefined) {
      text = elapsed((Date.now() - at) / 1000)
    }
    if (element.textContent !== text) {
      element.textContent = text
    }
    if (!element.title) {
      element.title = at.toLocaleString(language)
    }
  }
}

function atEnd(element) {
  return element.scrollHeight - element.scrollTop - element.clientHeight < 40
}

function draw(root, html) {
  const following = [...root.querySelectorAll("[data-follow]")].filter(atEnd).map((element) => element.id)
  const template = document.createElement("template")
  template.innerHTML = `<div>${html}</div>`
  patchChildren(root, template.content.firstChild)
  showTimes(root)
  const title = root.querySelector("[data-document-title]")
  if (title) {
    document.title = title.dataset.documentTitle
  }
  for (const element of root.querySelectorAll("[data-follow]")) {
    if (following.includes(element.id) || element.dataset.seen === undefined) {
      element.dataset.seen = ""
      element.scrollTop = element.scrollHeight
    }
  }
}

const MOST_CHILDREN = 5000

function append(root, id, html) {
  const target = root.querySelector(`#${id}`)
  if (!target) {
    return
  }
  const following = atEnd(target)
  target.insertAdjacentHTML("beforeend", html)
  while (target.childElementCount > MOST_CHILDREN) {
    target.firstElementChild.remove()
  }
  showTimes(target)
  if (following) {
    target.scrollTop = target.scrollHeight
  }
}

function plainClick(event) {
  return event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey
}

function go(model, url) {
  window.history.pushState({}, "", url)
  model.send_msg({action: "go", value: url})
}

function setTheme(theme) {
  const year = 31536000
  document.documentElement.dataset.theme = theme
  document.cookie = `muster_theme=${theme};path=/;max-age=${year};samesite=lax`
  document.cookie = `muster_scheme=${theme};path=/;max-age=${year};samesite=lax`
}

function act(model, element) {
  const {action, value} = element.dataset
  if (action === "theme") {
    setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark")
    model.send_msg({action, value: document.documentElement.dataset.theme})
  } else {
    model.send_msg({action, value: value ?? ""})
  }
}

const COPIED_MS = 2000

async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.dataset.copy)
  } catch {
    // Without https there is no clipboard but this one.
    const field = document.createElement("textarea")
    field.value = element.dataset.copy
    element.after(field)
    field.select()
    document.execCommand("copy")
    field.remove()
  }
  element.dataset.copied = ""
  setTimeout(() => delete element.dataset.copied, COPIED_MS)
}

// A button waits until Python has done what it asked for.
function showRunning(root, running) {
  for (const element of root.querySelectorAll("button[data-action]")) {
    element.ariaBusy = running.has(keyOf(element.dataset)) ? "true" : null
  }
}

function keyOf({action, value}) {
  return `${action} ${value ?? ""}`
}

export function render({model}) {
  const root = document.createElement("div")
  const running = new Set()
  const redraw = () => {
    draw(root, model.html)
    showRunning(root, running)
  }
  root.className = "view"
  redraw()
  model.on("html", redraw)

  root.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-nav]")
    if (link && plainClick(event)) {
      event.preventDefault()
      go(model, link.getAttribute("href"))
      return
    }
    const language = event.target.closest("a[data-language]")
    if (language) {
      const here = window.location.pathname + window.location.search
      language.href = `/language?lang=${language.dataset.language}&next=${encodeURIComponent(here)}`
      return
    }
    const source = event.target.closest("[data-copy]")
    if (source) {
      copy(source)
      return
    }
    const element = event.target.closest("[data-action]")
    if (!element || element.dataset.on) {
      return
    }
    event.preventDefault()
    // The second click of a double click is not a second wish, least of all for the button that came in its place.
    if (event.detail < 2 && !running.has(keyOf(element.dataset))) {
      running.add(keyOf(element.dataset))
      showRunning(root, running)
      act(model, element)
    }
  })
  for (const kind of ["input", "change"]) {
    root.addEventListener(kind, (event) => {
      const {action, on} = event.target.dataset
      if (action && on === kind) {
        model.send_msg({action, value: event.target.value})
      }
    })
  }

  model.on("msg:custom", (event) => {
    const message = event.data ?? event
    if (message.done) {
      running.delete(keyOf(message.done))
      showRunning(root, running)
    }
    if (message.append) {
      append(root, message.to, message.append)
    }
    if (message.go) {
      window.history.pushState({}, "", message.go)
    }
    if (message.leave) {
      window.location.assign(message.leave)
    }
  })

  const clock = setInterval(() => showTimes(root), 1000)
  const onBack = () => model.send_msg({action: "go", value: window.location.pathname + window.location.search})
  if (model.navigates) {
    window.addEventListener("popstate", onBack)
  }
  model.on("remove", () => {
    clearInterval(clock)
    window.removeEventListener("popstate", onBack)
  })
  return root
}
