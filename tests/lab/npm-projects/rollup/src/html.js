export const paragraph = (text) => `<p>${text}</p>`;

export const heading = (text) => `<h1>${text}</h1>`;
