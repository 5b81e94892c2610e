export default {
  define: { TEXT: JSON.stringify(['bundled', 'by', 'vite'].join(' ')) },
};
