// Texts whose contrast with their ground is below 4.5, as WCAG 2 counts it. Colours are as the
// browser computes them, over the nearest ground that isn't transparent.
const number = (c) => c.match(/[\d.]+/g).map(Number);
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const ground = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    const [r, g, b, a = 1] = number(getComputedStyle(at).backgroundColor);
    layers.push([r, g, b, a]);
    if (a === 1) break;
  }
  return layers.reverse().reduce((under, [r, g, b, a]) =>
    [r, g, b].map((v, i) => v * a + (under ? under[i] : v) * (1 - a)), null);
};
const faint = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || !element.getClientRects().length || element.tagName === "TITLE") continue;
  const style = getComputedStyle(element);
  const svg = element.namespaceURI.endsWith("svg");
  const [one, two] = [light(number(svg ? style.fill : style.color)), light(ground(element.closest(svg ? "figure" : "*")))];
  const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
  if (ratio < 4.5) faint.push([element.tagName, element.textContent.trim().slice(0, 30), ratio.toFixed(2)]);
}
return faint;
