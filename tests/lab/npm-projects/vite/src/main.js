import './style.css';

document.querySelector('#page').textContent = TEXT;
