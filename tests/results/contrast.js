// Texts whose contrast with what lies behind them is below 4.5 to 1 (WCAG 2, level AA).
// Texts inside coloured blocks of a figure are left out: their ground is not a background colour.

const channels = (colour) => colour.match(/[\d.]+/g).map(Number);

function luminance(colour) {
  const linear = colour.slice(0, 3).map((value) => {
    const part = value / 255;
    return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}

function ground(element) {
  for (let e = element; e; e = e.parentElement) {
    const colour = channels(getComputedStyle(e).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
}

const found = [];
for (const element of document.querySelectorAll("body *")) {
  const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  const skipped = element.closest(".hidden, caption, title, desc, script, .inside");
  if (!hasText || skipped || !element.getClientRects().length) continue;
  const style = getComputedStyle(element);
  const ink = luminance(channels(element.closest("svg") ? style.fill : style.color));
  const paper = luminance(ground(element));
  const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${element.outerHTML.slice(0, 90)}`);
}
return found;
