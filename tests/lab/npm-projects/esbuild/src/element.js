export function element(name, attributes, ...children) {
  return `<${name}>${children.join('')}</${name}>`;
}
