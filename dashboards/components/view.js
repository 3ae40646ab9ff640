// Shows the HTML that Python renders and tells Python what the user does with it.
// The page's own markup is kept in step by patching, so focus, scroll position and open details survive an update.

const KEYED = (node) => (node.nodeType === 1 ? node.dataset.key || node.id || "" : "")

function patchAttributes(from, to) {
  for (const {name} of [...from.attributes]) {
    if (!to.hasAttribute(name) && !(name === "open" && from.tagName === "DETAILS")) {
      from.removeAttribute(name)
    }
  }
  for (const {name, value} of to.attributes) {
    if (from.getAttribute(name) !== value) {
      from.setAttribute(name, value)
    }
  }
}

function same(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && KEYED(a) === KEYED(b)
}

function patch(from, to) {
  if (from.nodeType !== 1) {
    if (from.nodeValue !== to.nodeValue) {
      from.nodeValue = to.nodeValue
    }
    return
  }
  patchAttributes(from, to)
  if (from.dataset.keep === undefined) {
    patchChildren(from, to)
  }
}

function patchChildren(from, to) {
  let current = from.firstChild
  for (const wanted of [...to.childNodes]) {
    let match = current
    if (KEYED(wanted)) {
      while (match && !same(match, wanted)) {
        match = match.nextSibling
      }
    }
    if (match && same(match, wanted)) {
      patch(match, wanted)
      if (match !== current) {
        from.insertBefore(match, current)
      } else {
        current = current.nextSibling
      }
    } else {
      from.insertBefore(wanted, current)
    }
  }
  while (current) {
    const next = current.nextSibling
    current.remove()
    current = next
  }
}

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]]

function relative(seconds, language) {
  const [unit, size] = UNITS.find(([, s]) => Math.abs(seconds) >= s) || UNITS[3]
  return new Intl.RelativeTimeFormat(language, {numeric: "auto", style: "short"}).format(Math.trunc(seconds / size), unit)
}

// The browser knows the user's clock and time zone; the server does not.
function showTimes(root) {
  const language = document.documentElement.lang
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime)
    const text = element.dataset.clock === undefined
      ? relative((at - Date.now()) / 1000, language)
      : at.toLocaleTimeString(language, {hour12: false})
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

export function render({model}) {
  const root = document.createElement("div")
  root.className = "view"
  draw(root, model.html)
  model.on("html", () => draw(root, model.html))

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
    const element = event.target.closest("[data-action]")
    if (element && !element.dataset.on) {
      event.preventDefault()
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
