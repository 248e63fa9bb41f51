-- Which films are rated most?
select
    title,
    year,
    main_genre,
    rating_count,
    rating_mean
from {{ ref('dim_movies') }}
where rating_count > 0
order by rating_count desc, movie_key asc
limit 10
