// Brings a tree of markup in step with another, so that focus, scroll position and open details survive an update.

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
